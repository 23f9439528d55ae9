from __future__ import annotations

import math
from decimal import Decimal

import pytest

pytest.importorskip("hypothesis")
np = pytest.importorskip("numpy")

from hypothesis import given  # noqa: E402 - after the check that hypothesis is there
from hypothesis import strategies as st  # noqa: E402 - after the check that hypothesis is there

from amorsize.plan.buckets import SIZES, TIMES, clearly_outside, size_bucket, time_bucket  # noqa: E402 - after the check that hypothesis is there

counts = st.integers(min_value=0) | st.floats(min_value=0, allow_infinity=False, allow_nan=False)
seconds = st.floats(min_value=0, allow_infinity=False, allow_nan=False) | st.integers(min_value=0)
small_counts = st.integers(min_value=0, max_value=100_000)


@given(counts)
def test_every_count_has_a_size(n_items):
    """Each finite number from 0 up falls into one of the five sizes."""
    assert size_bucket(n_items) in SIZES


@given(seconds)
def test_every_time_has_a_bucket(seconds_per_item):
    """Each finite number of seconds from 0 up falls into one of the five times."""
    assert time_bucket(seconds_per_item) in TIMES


@given(counts, counts)
def test_sizes_are_monotone(one, other):
    """A longer input is never in a smaller bucket."""
    low, high = sorted((one, other))
    assert SIZES.index(size_bucket(low)) <= SIZES.index(size_bucket(high))


@given(seconds, seconds)
def test_times_are_monotone(one, other):
    """A slower item is never in a faster bucket."""
    low, high = sorted((one, other))
    assert TIMES.index(time_bucket(low)) <= TIMES.index(time_bucket(high))


@given(small_counts)
def test_sizes_are_the_same_for_every_kind_of_number(n_items):
    """An int, a float and NumPy's integers and floats of one value share a bucket."""
    kinds = (float, np.int64, np.uint32, np.float64, np.float32)
    assert {size_bucket(kind(n_items)) for kind in kinds} == {size_bucket(n_items)}


@given(st.floats(min_value=0, max_value=1e6, width=32))
def test_times_are_the_same_for_every_kind_of_float(seconds_per_item):
    """A float and NumPy's floats of one value share a bucket."""
    assert time_bucket(np.float64(seconds_per_item)) == time_bucket(seconds_per_item)
    assert time_bucket(np.float32(seconds_per_item)) == time_bucket(seconds_per_item)


@pytest.mark.parametrize(
    ("boundary", "below", "above"),
    [(10, "tiny", "small"), (100, "small", "medium"), (1_000, "medium", "large"), (10_000, "large", "xlarge")],
)
def test_a_count_on_a_boundary_is_in_the_larger_size(boundary, below, above):
    """The boundaries of size are powers of ten and belong to the bucket above."""
    assert (size_bucket(boundary - 1), size_bucket(boundary)) == (below, above)
    assert size_bucket(math.nextafter(boundary, 0)) == below


@pytest.mark.parametrize(
    ("boundary", "below", "above"),
    [(1e-4, "instant", "fast"), (1e-3, "fast", "moderate"), (1e-2, "moderate", "slow"), (1e-1, "slow", "very_slow")],
)
def test_a_time_on_a_boundary_is_in_the_slower_bucket(boundary, below, above):
    """The boundaries of time are powers of ten and belong to the bucket above."""
    assert (time_bucket(math.nextafter(boundary, 0)), time_bucket(boundary)) == (below, above)


@pytest.mark.parametrize("bucket", [size_bucket, time_bucket])
@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, math.inf, -math.inf, np.float64("nan"), np.int64(-1)])
def test_numbers_out_of_range_are_refused(bucket, value):
    """A negative, infinite or undefined number is a ValueError that shows it."""
    with pytest.raises(ValueError, match=r"must be a finite number, 0 or more, not "):
        bucket(value)


@pytest.mark.parametrize("bucket", [size_bucket, time_bucket])
@pytest.mark.parametrize("value", [True, np.True_, "10", b"10", None, 1j, Decimal(1), [1], np.array([1, 2])])
def test_what_is_not_a_number_is_refused(bucket, value):
    """Text, bool and the like are a TypeError that names the type."""
    with pytest.raises(TypeError, match=f"must be a number, not {type(value).__name__}"):
        bucket(value)


@given(st.floats(min_value=0, max_value=1e3))
def test_a_time_never_contradicts_its_own_bucket(seconds_per_item):
    """What lies in a bucket is not clearly outside it."""
    assert not clearly_outside(time_bucket(seconds_per_item), seconds_per_item)


@pytest.mark.parametrize(
    ("bucket", "seconds_per_item", "outside"),
    [
        ("instant", 0, False),
        ("instant", 1.9e-4, False),
        ("instant", 2.1e-4, True),
        ("moderate", 0.51e-3, False),
        ("moderate", 0.49e-3, True),
        ("moderate", 2.1e-2, True),
        ("very_slow", 0.051, False),
        ("very_slow", 0.049, True),
        ("very_slow", 1e6, False),
    ],
)
def test_a_time_contradicts_a_bucket_from_twice_beyond_its_boundary(bucket, seconds_per_item, outside):
    """Noise around a boundary contradicts neither of its two buckets."""
    assert clearly_outside(bucket, seconds_per_item) is outside
