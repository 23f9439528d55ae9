"""Functions and classes that tests send to workers: importable, so that every start method finds them."""

from __future__ import annotations

import os
import threading
import time

import amorsize


def square(number):
    return number * number


def add(*numbers):
    return sum(numbers)


def adder(offset):
    return lambda number: number + offset


def add_text(*texts):
    return "".join(texts)


def echo(value):
    return value


def process_id(_):
    return os.getpid()


def lengthen(text):
    return text * 2


def fail_at_seven(number):
    if number == 7:
        raise KeyError("seven", number)
    return number


def stop_at_seven(number):
    if number == 7:
        raise StopIteration("enough")
    return number


class OddError(Exception):
    """Cannot be rebuilt from its arguments."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first


def raise_odd(number):
    raise OddError("salt", number)


def unpicklable_at_three(number):
    return threading.Lock() if number == 3 else number


def nested_squares(count):
    """Map inside a worker, naming a backend that is not to be obeyed there; tell where the items ran."""
    inner = amorsize.map(process_id, range(count), backend="processes", n_jobs=2)
    return set(inner) == {os.getpid()}


class Unhashable:
    """Compares by value, so it has no hash."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Unhashable) and self.value == other.value

    __hash__ = None


class Scale:
    """A callable object with a method of its own."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, number):
        return number * self.factor

    def shifted(self, number):
        return number + self.factor


@amorsize.parallelize
def area(width, height=1):
    """Return the area of a rectangle."""
    return width * height


@amorsize.parallelize
def factorial(number):
    """Return number!, by way of the decorated name."""
    return 1 if number < 2 else number * factorial(number - 1)


@amorsize.parallelize(over="word")
def shout(word, mark="!"):
    return word.upper() + mark


@amorsize.parallelize(over="word")
def shout_by_keyword(mark, *, word):
    return word.upper() + mark


@amorsize.parallelize(over="word")
def shout_before(word, *marks, end=""):
    return word.upper() + "".join(marks) + end


class Cart:
    """Has a decorated method of every kind."""

    currency = "EUR"

    def __init__(self, discount):
        self.discount = discount

    @amorsize.parallelize
    def price(self, amount, count=1):
        """Return what `count` things of `amount` cost."""
        return (amount - self.discount) * count

    @amorsize.parallelize(over="amount")
    def prices(self, amount, count=1):
        return (amount - self.discount) * count

    @amorsize.parallelize
    @classmethod
    def label(cls, amount):
        return f"{amount} {cls.currency}"

    @amorsize.parallelize
    @staticmethod
    def rounded(amount):
        return round(amount)

    @staticmethod
    @amorsize.parallelize
    def halved(amount):
        return amount / 2


class Raising:
    """Callable that raises one kind of exception at item 3."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, number):
        if number == 3:
            raise self.kind
        return number


def first(values):
    """Return the first part of an item: of a list, a tuple, or of a dictionary's values."""
    return next(iter(values.values() if isinstance(values, dict) else values))


def slowly(number):
    """Take longer than a short time slice."""
    time.sleep(0.01)
    return number
