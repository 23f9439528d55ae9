"""Programs whose inputs change while they are read: each takes a `map` and returns what the program would print.

Functions that run in workers stand here as well, so that every start method finds them.
"""

from __future__ import annotations

import ctypes
import io
import itertools
import sqlite3
import struct
from array import array
from collections import UserList, deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import amorsize

ITEM_SECONDS = 0.002  # long enough that "auto" takes workers for what follows
COUNT = 40


def busy(seconds=ITEM_SECONDS):
    until = perf_counter() + seconds
    while perf_counter() < until:
        pass


def content(record):
    """Return what a record holds, as text: the record itself would change with the next item."""
    busy()
    if isinstance(record, (Point, Pair)):
        return record.x
    return str(sorted(record.items()) if isinstance(record, dict) else list(record))


def total(group):
    busy()
    return group[0], sum(group[1])


def total_of_numbered(item):
    return item[0], total(item[1])


def next_of(iterator):
    busy()
    return next(iterator)


def next_of_attribute(holder):
    return next_of(holder.rows)


def text_of(file):
    busy()
    return file.readline()


def name_of(entry):
    busy()
    return entry.name


def slow_if_first(number):
    busy(0.6 if number == 0 else ITEM_SECONDS)
    return number


def slow_if_first_row(row):
    return slow_if_first(row[0])


def children(node):
    """Return the numbers below `node` in a tree of `COUNT`."""
    busy()
    node = node[-1] if isinstance(node, list) else node
    return [child for child in (2 * node, 2 * node + 1) if child <= COUNT]


def children_of_numbered(pair):
    return children(max(pair))


def children_of_two(first, second):
    return children(max(first, second))


def doubled(number):
    busy()
    return 2 * number


@dataclass
class Point:
    """A record of Python."""

    x: int = 0


class Pair(ctypes.Structure):
    """A record of C."""

    _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int))


@dataclass
class Holder:
    """Has its rows in an attribute."""

    rows: object


# One record for all items.


def _refilled(record, fill):
    for number in range(COUNT):
        fill(record, number)
        yield record


def _set_x(record, number):
    record.x = number


def refilled_list():
    return content, _refilled([], lambda record, number: record.__setitem__(slice(None), [number, str(number)]))


def refilled_dict():
    return content, _refilled({}, lambda record, number: record.update(number=number))


def refilled_deque():
    return content, _refilled(deque(maxlen=3), lambda record, number: record.append(number))


def refilled_bytearray():
    return content, _refilled(bytearray(4), lambda record, number: struct.pack_into("<i", record, 0, number))


def refilled_array():
    return content, _refilled(array("d", [0.0]), lambda record, number: record.__setitem__(0, number))


def refilled_ctypes():
    return content, _refilled(Pair(), _set_x)


def reused_dataclass():
    return content, _refilled(Point(), _set_x)


def list_in_a_tuple():
    return content, ((number, record) for number, record in enumerate(refilled_list()[1]))


def batches():
    """Batches in one list that is cleared for the next."""

    def batched():
        batch = []
        for number in range(3 * COUNT):
            batch.append(number)
            if len(batch) == 3:
                yield batch
                batch.clear()

    return content, batched()


def refilled_with_a_counter():
    return lambda record, number: (content(record), number), refilled_list()[1], itertools.count()


def iterator_of_a_class():
    class Reader:
        def __init__(self):
            self.record = [0]

        def __iter__(self):
            return self

        def __next__(self):
            if self.record[0] == COUNT:
                raise StopIteration
            self.record[0] += 1
            return self.record

    return content, Reader()


class Rereading:
    """A sequence that hands out one record."""

    def __init__(self):
        self.record = [0]

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        self.record[0] = range(COUNT)[index]
        return self.record


def record_by_place():
    return content, Rereading()


REFILLED = [
    refilled_list, refilled_dict, refilled_deque, refilled_bytearray, refilled_array, refilled_ctypes,
    reused_dataclass, list_in_a_tuple, batches, refilled_with_a_counter, iterator_of_a_class, record_by_place,
]  # fmt: skip


# Items that are tied to their input, or to each other.


def grouped():
    return total, itertools.groupby(range(3 * COUNT), lambda number: number // 3)


def numbered_groups():
    return total_of_numbered, enumerate(itertools.groupby(range(3 * COUNT), lambda number: number // 3))


def one_iterator_for_all():
    return next_of, [iter(range(COUNT))] * COUNT


def one_iterator_in_attributes():
    rows = iter(range(COUNT))
    return next_of_attribute, [Holder(rows) for _ in range(COUNT)]


def one_iterator_from_a_generator():
    rows = iter(range(COUNT))
    return next_of, (rows for _ in range(COUNT))


def lines_of_one_file():
    file = io.StringIO("".join(f"{number}\n" for number in range(COUNT)))
    return text_of, (file for _ in range(COUNT))


ITERATORS = [
    grouped, numbered_groups, one_iterator_for_all, one_iterator_in_attributes, one_iterator_from_a_generator,
    lines_of_one_file,
]  # fmt: skip


# Inputs that grow with their results.


class Growing(Sequence):
    """A sequence of the user's own."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]

    def extend(self, values):
        self.values.extend(values)


class ByPlace:
    """One that has places, and nothing that makes an iterator."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]

    def extend(self, values):
        self.values.extend(values)


todo = []


def _loop_over_global():
    for node in todo:  # noqa: UP028 - the loop is what is tested
        yield node


def _loop_over_argument(nodes):
    for node in nodes:
        if node > 0:
            yield [node]


def _delegating(nodes):
    yield from _loop_over_argument(nodes)


class Crawler:
    """Reads a list that is not its own."""

    def __init__(self, nodes):
        self.nodes = nodes

    def each(self):
        for place, node in enumerate(self.nodes):  # noqa: UP028
            yield place, node


def _growing(mapping, function, *inputs, grow, **options):
    met = []
    for found in mapping(function, *inputs, **options):
        met.append(found)
        grow(found)
    return met


def extend_by_children(nodes, inputs, **options):
    for found in amorsize.map(children, inputs, **options):
        nodes.extend(found)


def growing(how):
    """Return a program whose list is read in the way `how`, and grows by what was found."""

    def program(mapping, **options):
        todo[:] = [1]
        function, inputs, grown = GROWING[how](todo)
        strict = {"strict": True} if how == "two lists, strict" else {}
        return _growing(mapping, function, *inputs, grow=grown.extend, **strict, **options)

    return program


def _both(first, second):
    class Both:
        @staticmethod
        def extend(values):
            first.extend(values)
            second.extend(values)

    return Both


def _two_lists(nodes):
    other = list(nodes)
    return children_of_two, (nodes, other), _both(nodes, other)


def _own(kind):
    def make(_):
        values = kind([1])
        return children, (values,), values

    return make


GROWING = {
    "a list": lambda nodes: (children, (nodes,), nodes),
    "its iterator": lambda nodes: (children, (iter(nodes),), nodes),
    "enumerate": lambda nodes: (children_of_numbered, (enumerate(nodes),), nodes),
    "zip": lambda nodes: (children_of_numbered, (zip(nodes, itertools.repeat(0), strict=False),), nodes),
    "map": lambda nodes: (children, (map(int, nodes),), nodes),
    "filter": lambda nodes: (children, (filter(None, nodes),), nodes),
    "chain": lambda nodes: (children, (itertools.chain(nodes, []),), nodes),
    "a generator expression": lambda nodes: (children, ((node for node in nodes),), nodes),
    "one in another": lambda nodes: (children, (([node] for node in (node for node in nodes)),), nodes),
    "a loop over a global": lambda nodes: (children, (_loop_over_global(),), nodes),
    "a loop over an argument": lambda nodes: (children, (_loop_over_argument(nodes),), nodes),
    "a delegating loop": lambda nodes: (children, (_delegating(nodes),), nodes),
    "a loop over an attribute": lambda nodes: (children_of_numbered, (Crawler(nodes).each(),), nodes),
    "a list beside a counter": lambda nodes: (children_of_two, (nodes, itertools.repeat(0)), nodes),
    "two lists": _two_lists,
    "two lists, strict": _two_lists,
    "a subclass": _own(type("Nodes", (list,), {})),
    "a UserList": _own(UserList),
    "a sequence": _own(Growing),
    "an object with places": _own(ByPlace),
    "an array": _own(lambda values: array("l", values)),
}


# Worklists: an item is taken off, and its result may put others on.


def _popping(nodes):
    while nodes:
        yield nodes.popleft()


class Worklist:
    """Takes nodes off a list of its own, to which others are added."""

    def __init__(self):
        self.nodes = deque([1])

    def each(self):
        while self.nodes:
            yield self.nodes.popleft()

    def take(self):
        return self.nodes.popleft()

    def each_by_method(self):
        while self.nodes:
            yield self.take()


class Taking(Worklist):
    """Is an iterator itself."""

    def __iter__(self):
        return self

    def __next__(self):
        if not self.nodes:
            raise StopIteration
        return self.nodes.popleft()


def _delegated(nodes):
    yield from _popping(nodes)


def _aliased(nodes):
    take = nodes.popleft
    while nodes:
        yield take()


def _from_queue(jobs):
    while not jobs.empty():
        yield jobs.get(timeout=1)


def _worklist_of(make):
    def program(mapping, **options):
        nodes = deque([1])
        return _growing(mapping, children, make(nodes), grow=nodes.extend, **options)

    return program


def _worklist_object(make):
    def program(mapping, **options):
        work = Taking()
        return _growing(mapping, children, make(work), grow=work.nodes.extend, **options)

    return program


def _queued(mapping, **options):
    from queue import SimpleQueue

    jobs = SimpleQueue()
    jobs.put(1)
    return _growing(
        mapping, children, _from_queue(jobs), grow=lambda found: [jobs.put(node) for node in found], **options
    )


def _until_empty(mapping, **options):
    nodes = deque([1])

    def grow(found):
        if nodes[-1] is None:
            nodes.pop()
        nodes.extend(found)
        nodes.append(None)

    nodes.append(None)
    return _growing(mapping, children, iter(nodes.popleft, None), grow=grow, **options)


WORKLISTS = {
    "a generator": _worklist_of(_popping),
    "a delegating generator": _worklist_of(_delegated),
    "a bound method": _worklist_of(_aliased),
    "a generator below others": _worklist_of(lambda nodes: map(int, (node for node in _popping(nodes)))),
    "a generator expression": _worklist_of(lambda nodes: (nodes.popleft() for _ in range(COUNT))),
    "a queue": _queued,
    "a callable iterator": _until_empty,
    "a method": _worklist_object(lambda work: work.each()),
    "a method's method": _worklist_object(lambda work: work.each_by_method()),
    "an iterator's class": _worklist_object(lambda work: work),
}


# Inputs that belong to their thread.


class Rows:
    """Has a length, and reads a database that only its own thread may read."""

    def __init__(self):
        self.connection = sqlite3.connect(":memory:")

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.connection.execute("select ?", (range(12)[index],)).fetchone()[0]


class RowsByIterator(Rows):
    """The same, iterated by a generator."""

    def __iter__(self):
        return (self[index] for index in range(12))


def tied_rows():
    return slow_if_first, Rows()


def tied_rows_by_iterator():
    return slow_if_first, RowsByIterator()
