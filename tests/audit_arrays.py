"""Functions for the tests of `audit=` that need NumPy or pandas, apart because workers then import these."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
import pandas as pd

import amorsize

_own = np.random.default_rng(7)


def chance(number):
    return np.random.rand(2)


def chance_of_its_own(number):
    return _own.normal(size=2)


def scaling(array):
    array *= 2
    return float(array.sum())


def drawn(number):
    return random.random(), np.random.rand(2), amorsize.item_rng().random()


def frame(number):
    return pd.DataFrame({"a": [number, math.nan], "b": ["x", None]}, index=["u", "v"])


def structured(number):
    return np.array([(number, math.nan, b"x")], dtype=[("n", "i4"), ("f", "f8"), ("s", "S2")])


def _named(owner, names):
    return [getattr(owner, name) for name in names.split()]


ARRAYS = [np.array([0.25, 0.5, math.nan]), np.ones((2, 2))]
PURE = {
    "arrays": (
        [
            *_named(
                np,
                "sqrt sin cos tan arcsin arccos arctan sinh cosh tanh exp expm1 log1p ceil floor trunc fabs degrees "
                "radians isnan isfinite isinf modf frexp square cbrt sign negative absolute reciprocal rint exp2 "
                "sum mean std var min max argmax cumsum cumprod sort argsort transpose ravel nanmean nansum unique "
                "diff float32",
            ),
            np.ndarray.tolist, np.ma.masked_invalid, functools.partial(np.array, dtype=object),
            functools.partial(np.array, dtype=complex),
        ],
        ARRAYS,
    ),
    "tables": (
        [
            frame, structured, pd.Timestamp, np.timedelta64, np.float64, pd.RangeIndex, pd.Timedelta,
            functools.partial(pd.date_range, "2020-01-01", None), pd.Series,
        ],
        [1, 2, 3],
    ),
}  # fmt: skip
