"""Which bucket of length, and of time per item, does a number fall into? The boundaries are at powers of ten.

A boundary belongs to the bucket above it: 9 items are tiny and 10 are small; 0.1 ms per item is fast and a hair less is
instant. Both functions answer for every finite number from 0 up, so that whatever was measured has a bucket.
"""

from __future__ import annotations

import operator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, SupportsFloat, SupportsIndex

    Real = SupportsIndex | SupportsFloat

__all__ = ["SIZES", "TIMES", "clearly_outside", "size_bucket", "time_bucket"]

SIZES = ("tiny", "small", "medium", "large", "xlarge")
TIMES = ("instant", "fast", "moderate", "slow", "very_slow")
_ITEMS = (10, 100, 1_000, 10_000)
_SECONDS = (1e-4, 1e-3, 1e-2, 1e-1)

# A measured time contradicts a bucket when it lies beyond the boundary by this factor. A smaller value means that noise
# near a boundary flips between two entries; a larger one means that a profile wrong by this factor is still trusted.
_CLEAR_FACTOR = 2.0


def size_bucket(n_items: Real) -> str:
    """Return the bucket of a number of items: tiny, small, medium, large or xlarge.

    Args:
        n_items: number of items, 0 or more: an int, a float, or a NumPy integer or float.

    Raises:
        TypeError: `n_items` is not a real number (text and bool are not).
        ValueError: `n_items` is negative, infinite or NaN.

    >>> size_bucket(999), size_bucket(1_000)
    ('medium', 'large')
    """
    return _bucket(_checked("n_items", n_items), _ITEMS, SIZES)


def time_bucket(seconds_per_item: Real) -> str:
    """Return the bucket of a running time: instant, fast, moderate, slow or very_slow.

    Args:
        seconds_per_item: mean seconds of one item, 0 or more: an int, a float, or a NumPy integer or float.

    Raises:
        TypeError: `seconds_per_item` is not a real number (text and bool are not).
        ValueError: `seconds_per_item` is negative, infinite or NaN.

    >>> time_bucket(0.0005), time_bucket(2)
    ('fast', 'very_slow')
    """
    return _bucket(_checked("seconds_per_item", seconds_per_item), _SECONDS, TIMES)


def clearly_outside(bucket: str, seconds_per_item: Real) -> bool:
    """Say whether a measured time contradicts a time bucket, with a margin that noise does not cross.

    Args:
        bucket: one of `TIMES`.
        seconds_per_item: what was measured, in seconds.

    Raises:
        TypeError, ValueError: as `time_bucket` raises them.

    >>> clearly_outside("fast", 0.0015), clearly_outside("fast", 0.0021)
    (False, True)
    """
    seconds = _checked("seconds_per_item", seconds_per_item)
    place = TIMES.index(bucket)
    above = place < len(_SECONDS) and seconds > _SECONDS[place] * _CLEAR_FACTOR
    below = place > 0 and seconds < _SECONDS[place - 1] / _CLEAR_FACTOR
    return above or below


def _bucket(number: float, boundaries: tuple[float, ...], names: tuple[str, ...]) -> str:
    for boundary, name in zip(boundaries, names, strict=False):  # the last name has no boundary above it
        if number < boundary:
            return name
    return names[-1]


def _checked(name: str, value: Any) -> float:
    number: float = value if type(value) in (int, float) else _plain(name, value)
    # One comparison refuses negative numbers, infinity and NaN, and also works for ints too large for a float.
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name} must be a finite number, 0 or more, not {value!r}")
    return number


def _plain(name: str, value: Any) -> float:
    # NumPy's integers and floats have `is_integer`; its booleans and arrays, Decimal and text have not.
    if isinstance(value, bool) or not (isinstance(value, int) or hasattr(value, "is_integer")):
        raise TypeError(f"{name} must be a number, not {type(value).__name__} {value!r}")
    return operator.index(value) if hasattr(value, "__index__") else float(value)
