"""Functions that workers run on large data, and what they leave behind."""

from __future__ import annotations

import os

kept = []


def same(item):
    return item


def changed(array):
    """Change an array in place, which neither fails nor shows anywhere else, and return its sum before and after."""
    before = float(array.sum())
    array += 1
    return before, float(array.sum())


def keep(array):
    """Keep every array, and say whether all that were kept are what they were."""
    kept.append((array, float(array.flat[0])))
    return all((array == first).all() for array, first in kept)


def kept_slice(array):
    """Keep a view of a part only."""
    kept.append((array[1:3], float(array.flat[0])))
    return all((array == first).all() for array, first in kept)


def kept_view(item):
    """Keep a view of the memory that knows nothing of arrays."""
    kept.append((memoryview(item)[:5], bytes(item[:5])))
    return all(bytes(view) == content for view, content in kept)


def in_cycle(array):
    """Leave the array in a circle of references."""
    circle = [array]
    circle.append(circle)
    return float(array[0])


def total_of(scale, arrays):
    return float(sum(array.sum() for array in arrays)) * scale


def first_and_number(pair):
    """Change what several items share, and return what of it was there, and what is the item's own."""
    shared, number = pair
    was = float(shared[0])
    shared[0] = -1.0
    return was, number


def die_once(folder, array):
    """Change an array and die, the first time; then say what it holds."""
    path = os.path.join(folder, str(int(array[0])))
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8"):
            pass
        array[:] = -1.0
        os.kill(os.getpid(), 9)
    return float(array.sum())


def fail_after(array):
    """Change an array and raise."""
    array[:] = -1.0
    raise ValueError("after the change")
