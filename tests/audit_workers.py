"""Functions for the tests of `audit=`: impure ones, each in its own way, and pure ones by families."""

from __future__ import annotations

import base64
import calendar
import collections
import datetime as dt
import decimal
import fractions
import functools
import hashlib
import itertools
import json
import math
import multiprocessing
import operator
import os
import random
import re
import shlex
import statistics
import string
import textwrap
import threading
import time
import uuid
import zlib
from dataclasses import dataclass, field

from amorsize import context

# Impure ones. All take a number.

_count = 0
_previous = None
_kept: list[int] = []
_first: list[int] = []
_memo: dict[str, list[int]] = {}
_left = set(range(10_000))
_numbers = itertools.count()
_generator = (n * n for n in itertools.count())
_own_random = random.Random(7)
_file = open(__file__, encoding="utf-8")  # noqa: SIM115 - that it stays open is the point
_local = threading.local()


def counting(number):
    global _count
    _count += 1
    return _count


def difference_to_previous(number):
    global _previous
    previous, _previous = _previous, number
    return None if previous is None else number - previous


def kept_in_default(number, kept=[]):  # noqa: B006 - that is the point
    kept.append(number)
    return len(kept)


def kept_in_global(number):
    _kept.append(number)
    return _kept[-3:]


def memo_that_grows(number):
    found = _memo.setdefault("all", [])
    found.append(number)
    return found


def taking_from_a_set(number):
    _left.discard(number)
    return min(_left), len(_left)


def next_of_an_iterator(number):
    return number, next(_numbers)


def next_of_a_generator(number):
    return number, next(_generator)


def line_of_a_file(number):
    return _file.readline() or _file.seek(0)


def chance(number):
    return random.random()


def chance_of_its_own(number):
    return _own_random.random()


def chance_of_the_system(number):
    return os.urandom(4)


def identifier(number):
    return uuid.uuid4()


def clock(number):
    return time.perf_counter_ns()


def date(number):
    return {"when": dt.datetime.now()}  # noqa: DTZ005


def process_id(number):
    return number, os.getpid()


def parent_process_id(number):
    return os.getppid(), multiprocessing.current_process().name


def thread_id(number):
    return threading.get_native_id()


def thread_local(number):
    _local.count = getattr(_local, "count", 0) + 1
    return _local.count


def environment(number):
    return os.environ.setdefault("AMORSIZE_TEST_AUDIT", str(number))


def folder(number):
    before = os.getcwd()
    os.chdir(os.path.dirname(before))
    return before


def precision(number):
    decimal.getcontext().prec += 1
    return decimal.Decimal(1) / 3


def address(number):
    return repr(object()), id([number])


def function_attribute(number):
    function_attribute.calls = getattr(function_attribute, "calls", 0) + 1
    return function_attribute.calls


class Machine:
    """Counts its turns."""

    made = 0

    def __init__(self):
        self.turns = 0

    def turn(self, number):
        self.turns += 1
        return self.turns

    @classmethod
    def make(cls, number):
        cls.made += 1
        return cls.made


turned = Machine().turn


@functools.cache
def _of_the_first(_):
    return _first[0]


def cached_from_the_first(number):
    _first.append(number)
    return _of_the_first(None)


def raising_once_in_a_while(number):
    global _count
    _count += 1
    if _count % 4 == 0:
        raise ValueError(number)
    return number


def reset():
    """Have this process as it was at first."""
    global _count, _previous
    _count, _previous = 0, None
    for kept in (_kept, _first, _memo):
        kept.clear()
    _left.update(range(10_000))
    _of_the_first.cache_clear()


IMPURE = [
    counting, difference_to_previous, kept_in_default, kept_in_global, memo_that_grows, taking_from_a_set,
    next_of_an_iterator, next_of_a_generator, line_of_a_file, chance, chance_of_its_own,
    chance_of_the_system, identifier, clock, date, process_id, parent_process_id, thread_id,
    thread_local, environment, folder, precision, address, function_attribute, turned, Machine.make,
    cached_from_the_first, raising_once_in_a_while,
]  # fmt: skip


# Those that change their argument.


@dataclass
class Point:
    """A dataclass, with a NaN."""

    x: float
    y: float = math.nan
    tags: list[str] = field(default_factory=list)


class Plain:
    """Has one attribute, and no `__eq__`."""

    def __init__(self, value):
        self.value = value


def sorting(numbers):
    numbers.sort()
    return numbers


def moving(point):
    point.x += 1
    return 0


def filling(table):
    table["seen"] = True


CHANGING = [
    (sorting, lambda n: [3, 2, 1, n]),
    (moving, Point),
    (filling, lambda n: {"n": n}),
]


# Pure ones, each with its items.


@functools.lru_cache(maxsize=8)
def cached(number):
    return number * number


def with_nan(number):
    return {"value": math.nan, "rest": [number, complex(math.nan, 1)], math.nan: {1.5: (math.nan,)}}


def sum_in_another_order(number):
    numbers = [0.1 * number, 0.2, 0.3, 1e-3]
    if multiprocessing.parent_process() is not None or context.worker_process:
        numbers.reverse()
    return sum(numbers)


def failing(number):
    raise KeyError("no", number)


def exiting(number):
    raise SystemExit(number)


def recursive(number):
    found = [number]
    found.append(found)
    return found


def twin(number):
    shared = [number]
    return {"a": shared, "b": shared}


def sorting_a_copy(numbers):
    return sorted(numbers)


class Slotted:
    """Has one slot."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def same(value):
    return value


class Shop:
    """Has a method."""

    def __init__(self, price):
        self.price = price

    def cost(self, number):
        return Plain(self.price * number)


def adding(by):
    return lambda number: number + by


def hexdigest(name, data):
    return hashlib.new(name, data).hexdigest()


def _named(owner, names):
    return [getattr(owner, name) for name in names.split()]


NUMBERS = [0.5, 1.0, 0.25]
TEXTS = ["a B", "Straße", "x1 y2", ""]

# By family: functions, and the items of each.
PURE = {
    "builtins": (
        [abs, bool, float, int, repr, str, round, type, complex, hash, "{:.3f}".format, float.hex, float.is_integer],
        NUMBERS,
    ),
    "containers": (
        [sorted, sum, max, min, len, tuple, list, any, all, set, frozenset, collections.deque, sorting_a_copy],
        [[3, 1, 2], [2.5, 1.0]],
    ),
    "whole numbers": (
        [
            bin, hex, oct, chr, range, bytes, bytearray, math.factorial, math.isqrt, calendar.isleap,
            fractions.Fraction, decimal.Decimal,
        ],
        [1, 5, 25],
    ),
    "math": (
        _named(
            math,
            "sqrt sin cos tan asin acos atan sinh cosh tanh asinh exp expm1 log1p ceil floor trunc fabs degrees "
            "radians erf erfc gamma lgamma isnan isfinite isinf modf frexp",
        ),
        NUMBERS,
    ),
    "texts": (
        [
            *_named(
                str,
                "upper lower title swapcase casefold capitalize strip lstrip rstrip split rsplit splitlines isalpha "
                "isdigit isspace isupper islower isalnum isidentifier encode istitle isnumeric isdecimal isascii",
            ),
            functools.partial(re.findall, r"\w\d?"), functools.partial(re.sub, r"\s", "_"), re.escape, re.compile,
            json.dumps, textwrap.dedent, string.capwords, collections.Counter, shlex.quote,
            operator.methodcaller("partition", " "),
        ],
        TEXTS,
    ),
    "bytes": (
        [
            base64.b64encode, base64.b32encode, base64.b16encode, zlib.compress, zlib.crc32, zlib.adler32, bytes.hex,
            bytes.decode, bytes.upper, bytes.title,
            *(functools.partial(hexdigest, name) for name in ("md5", "sha1", "sha256", "sha512", "sha3_256")),
        ],
        [b"a", b"bc" * 100],
    ),
    "statistics": (
        _named(statistics, "mean fmean median median_low median_high mode multimode stdev variance pstdev pvariance"),
        [[1.5, 2.25, 2.25, 4.0]],
    ),
    "ours": (
        [
            cached, with_nan, sum_in_another_order, recursive, twin, Point, Plain, Shop(3).cost,
            adding(2), adding, functools.partial(operator.mul, 3), functools.partial(pow, 2), dt.date.fromordinal,
            dt.timedelta, Exception, KeyError, failing, exiting, Slotted, same,
        ],
        [1, 2, 3],
    ),
}  # fmt: skip


# For single tests.


def set_order(number):
    return list({f"{number} {n}" for n in range(20)})


def is_first(path, *told):
    """Say whether this is asked for the first time."""
    place = os.path.join(path, " ".join(map(str, told)))
    try:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True


def failing_first(path, number):
    """Fail at the first try of an item in each process."""
    if is_first(path, number, os.getpid()):
        raise OSError("not yet")
    return number


def endless_second(path, number):
    if not is_first(path, number):
        threading.Event().wait()
    return number


def dying_elsewhere(pid, number):
    if number == 3 and os.getpid() != pid:
        os._exit(7)
    return number


def interrupted_elsewhere(pid, number):
    if os.getpid() != pid:
        raise KeyboardInterrupt
    return number


def endless_elsewhere(pid, number):
    if os.getpid() != pid:
        threading.Event().wait()
    return number


class Item:
    """Keeps what it has computed of itself."""

    def __init__(self, number):
        self.number = number

    @functools.cached_property
    def square(self):
        return self.number**2


@dataclass
class Measured:
    """Keeps it as well, and does not compare everything."""

    number: int
    seconds: float = field(default=0.0, compare=False)

    @functools.cached_property
    def square(self):
        return self.number**2


@dataclass
class Same:
    """Is equal to all of its kind."""

    number: int

    def __eq__(self, other):
        return isinstance(other, Same)

    __hash__ = None


@dataclass
class Typed:
    """Has the `__eq__` of a dataclass."""

    number: float


class Tagged(list):
    """Has a slot beside its elements."""

    __slots__ = ("tag",)

    def __init__(self, elements, tag):
        super().__init__(elements)
        self.tag = tag


class Node:
    """Has a set of others."""

    def __init__(self, kids, name=""):
        self.kids = kids
        self.name = name


def layers(depth):
    """Return the top of nodes of which each one has both of the layer below."""
    kids = set()
    for _ in range(depth):
        kids = {Node(kids, "a"), Node(kids, "b")}
    return kids


def squaring(item):
    return item.square


def drawing(number):
    return random.random()


class LoadedOnce(Machine):
    """Cannot be rebuilt in another process."""

    def __init__(self, pid):
        super().__init__()
        self.pid = pid

    def __setstate__(self, state):
        if state["pid"] != os.getpid():
            raise RuntimeError("not here")
        self.__dict__.update(state)

    def __call__(self, number):
        return self.turn(number)


def process_id_below(number):
    if number == 3:
        raise ValueError(number)
    return os.getpid()


def raising_at_one(number):
    if number == 1:
        raise ValueError(number)
    return os.getpid()


_initial = None


def initialize(number):
    global _initial
    _initial = number


def initialized(number):
    return _initial + number
