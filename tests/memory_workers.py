"""Functions that workers run on large data, and what they leave behind."""

from __future__ import annotations

import os
import time

kept = []
scratch = None


class FillsOneArray:
    """Pickles itself through one array that all objects of the class share, and fills anew."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        import numpy as np

        global scratch
        if scratch is None:
            scratch = np.zeros(20_000)
        scratch[:] = self.number
        return first_of, (scratch,)


class OffersMemory:
    """Offers its memory to pickle, and is made anew of what comes of it."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        import pickle

        return OffersMemory, (pickle.PickleBuffer(self.data),)


def first_of(array):
    return FillsOneArray(float(array[0]))


def number_of(item):
    return item.number


def type_of_data(item):
    return type(item.data).__name__


def fork_and_change(array):
    """Have a forked process change the array, and another read it after the item is over."""
    child = os.fork()
    if not child:
        array[:] = -1.0
        os._exit(0)
    os.waitpid(child, 0)
    return float(array.sum())


def fork_and_read(folder, array):
    """Have a forked process say what it finds in the array long after the item is over."""
    path = os.path.join(folder, str(int(array[0])))
    if not os.fork():
        while not os.path.exists(os.path.join(folder, "over")):
            time.sleep(0.005)
        with open(path + ".part", "w", encoding="utf-8") as file:
            file.write(repr(float(array.sum())))
        os.rename(path + ".part", path)
        os._exit(0)
    return float(array[0])


def mapped_files(_):
    """Return how many files of ours this process has mapped or open, apart from regions of one file."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return len({line.split()[4] for line in maps if "memfd:amorsize" in line})


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
