"""How many workers, and chunks of what length, does a pool of your own need? Asks `optimize`, then uses its answer.

Usage: python examples/pool_advice.py
"""

from __future__ import annotations

from multiprocessing import Pool

import amorsize


def divisors(number: int) -> int:
    return sum(number % candidate == 0 for candidate in range(1, number + 1))


def main() -> None:
    plan = amorsize.optimize(divisors, range(1, 2_000))
    print(plan.explain())
    with Pool(plan.n_jobs) as pool:
        print("most divisors:", max(pool.imap(divisors, plan.data, chunksize=plan.chunksize)))


if __name__ == "__main__":
    main()
