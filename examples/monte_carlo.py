"""How near to pi do random points come? Each item is its own seed, so any number of workers gives the same answer.

Usage: python examples/monte_carlo.py [BATCHES]
"""

from __future__ import annotations

import math
import random
import sys

import amorsize

POINTS_PER_BATCH = 20_000


def hits(seed: int) -> int:
    draw = random.Random(seed).random
    return sum(math.hypot(draw(), draw()) <= 1 for _ in range(POINTS_PER_BATCH))


def main() -> None:
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    counts = amorsize.map(hits, range(batches))
    estimate = 4 * sum(counts) / (batches * POINTS_PER_BATCH)
    print(f"pi is about {estimate:.4f}, off by {abs(estimate - math.pi):.4f}")
    if counts.plan is not None:
        print(f"ran on {counts.plan.backend}: {counts.plan.reason}")


if __name__ == "__main__":
    main()
