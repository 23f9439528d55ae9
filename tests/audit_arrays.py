"""Functions for the tests of `audit=` that need NumPy or pandas, apart because workers then import these."""

from __future__ import annotations

import functools
import math
import random

import numpy
import pandas

import amorsize

_own = numpy.random.default_rng(7)


def chance(number):
    return numpy.random.rand(2)


def chance_of_its_own(number):
    return _own.normal(size=2)


def scaling(array):
    array *= 2
    return float(array.sum())


def drawn(number):
    return random.random(), numpy.random.rand(2), amorsize.item_rng().random()  # noqa: S311


def frame(number):
    return pandas.DataFrame({"a": [number, math.nan], "b": ["x", None]}, index=["u", "v"])


def structured(number):
    return numpy.array([(number, math.nan, b"x")], dtype=[("n", "i4"), ("f", "f8"), ("s", "S2")])


def _named(owner, names):
    return [getattr(owner, name) for name in names.split()]


ARRAYS = [numpy.array([0.25, 0.5, math.nan]), numpy.ones((2, 2))]
PURE = {
    "arrays": (
        [
            *_named(
                numpy,
                "sqrt sin cos tan arcsin arccos arctan sinh cosh tanh exp expm1 log1p ceil floor trunc fabs degrees "
                "radians isnan isfinite isinf modf frexp square cbrt sign negative absolute reciprocal rint exp2 "
                "sum mean std var min max argmax cumsum cumprod sort argsort transpose ravel nanmean nansum unique "
                "diff float32",
            ),
            numpy.ndarray.tolist, numpy.ma.masked_invalid, functools.partial(numpy.array, dtype=object),
            functools.partial(numpy.array, dtype=complex),
        ],
        ARRAYS,
    ),
    "tables": (
        [
            frame, structured, pandas.Timestamp, numpy.timedelta64, numpy.float64, pandas.RangeIndex, pandas.Timedelta,
            functools.partial(pandas.date_range, "2020-01-01", None), pandas.Series,
        ],
        [1, 2, 3],
    ),
}  # fmt: skip
