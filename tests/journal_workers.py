"""What the tests of journals send to workers."""

from __future__ import annotations

from pathlib import Path

import amorsize


class Noting:
    """Callable that notes in a file which items it ran for, and squares them."""

    def __init__(self, folder):
        self.path = str(Path(folder) / "ran")

    def __call__(self, number):
        with open(self.path, "ab") as file:
            file.write(b"%d\n" % number)
        return number**2

    def items(self):
        return [int(line) for line in Path(self.path).read_text(encoding="ascii").split()]


def inverse(number):
    return 1 / number


def draw(_):
    return amorsize.item_rng().random()


def same(item):
    return item


def unpicklable(_):
    return lambda number: number
