"""Which worker ran what, and when? Writes a page with the timeline of a run, and tells what the run did.

Usage: python examples/see_a_run.py [run.html]
"""

from __future__ import annotations

import random
import sys

import amorsize


def settle(seed: int) -> int:
    """Walk until the walk is far from where it began, which takes some walks much longer than others."""
    chance = random.Random(seed)
    place, steps = 0, 0
    while abs(place) < 60 and steps < 60_000:
        place += chance.choice((-1, 1))
        steps += 1
    if seed % 97 == 13:
        raise ValueError(f"walk {seed} did not settle")
    return steps


def main() -> None:
    """Run the walks, and write the page."""
    stream = amorsize.map(settle, range(400), n_jobs=4, record=True, on_error="return")
    walked = [steps for steps in stream if isinstance(steps, int)]
    print(f"{len(walked)} walks, {sum(walked):,} steps")
    print(stream.report.explain())
    if len(sys.argv) > 1:
        stream.report.timeline(sys.argv[1])


if __name__ == "__main__":
    main()
