"""What a type checker must infer; read by mypy (`tox run -e types`), never run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import amorsize

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from typing_extensions import assert_type

    from amorsize import OptimizedPlan, Parallelized, Plan, Stream


def one(a: int) -> str:
    return str(a)


def two(a: int, b: str) -> bytes:
    return b.encode() * a


def three(a: int, b: str, c: bytes) -> float:
    return a + len(b) + len(c)


def four(a: int, b: str, c: bytes, d: float) -> list[int]:
    return [a, len(b), len(c), int(d)]


def five(a: int, b: str, c: bytes, d: float, e: bool) -> set[int]:
    return {a, len(b), len(c), int(d), e}


def six(a: int, b: int, c: int, d: int, e: int, f: int) -> complex:
    return complex(a + b + c, d + e + f)


@amorsize.parallelize
def bare(width: int, height: int = 1) -> float:
    return width / height


@amorsize.parallelize(n_jobs=2, on_error="return")
def called(path: str) -> bytes:
    return path.encode()


@amorsize.parallelize(over="path")
def over(path: str, size: int) -> bytes:
    return path.encode() * size


class Cart:
    """Has a decorated method."""

    @amorsize.parallelize
    def price(self, amount: int, count: int = 1) -> float:
        return amount * count


if TYPE_CHECKING:
    numbers, texts, blobs, floats, truths = [1], ["a"], [b"a"], [1.0], [True]

    # The results of a map, by the number of iterables.
    assert_type(amorsize.map(one, numbers), Stream[str])
    assert_type(amorsize.map(two, numbers, texts), Stream[bytes])
    assert_type(amorsize.map(three, numbers, texts, blobs), Stream[float])
    assert_type(amorsize.map(four, numbers, texts, blobs, floats), Stream[list[int]])
    assert_type(amorsize.map(five, numbers, texts, blobs, floats, truths), Stream[set[int]])
    assert_type(amorsize.map(six, numbers, numbers, numbers, numbers, numbers, numbers), Stream[complex])
    assert_type(amorsize.map(lambda number: number / 2, numbers, strict=True, n_jobs=2), Stream[float])
    assert_type(amorsize.starmap(two, [(1, "a")], backend="serial"), Stream[bytes])
    assert_type(list(amorsize.map(one, range(3))), list[str])

    # Slips that must be seen: each of these lines is an error without its comment.
    amorsize.map(one, texts)  # type: ignore[arg-type]
    amorsize.map(two, numbers)  # type: ignore[arg-type]
    amorsize.map(one)  # type: ignore[call-overload]
    amorsize.map(one, numbers, njobs=2)  # type: ignore[call-overload]
    amorsize.map(one, numbers, backend="thread")  # type: ignore[call-overload]
    amorsize.starmap(two, [(1, "a")], on_error="skip")  # type: ignore[arg-type]
    amorsize.parallelize(n_jobs="2")  # type: ignore[call-overload]

    # Backends as objects.
    amorsize.map(one, numbers, backend=ThreadPoolExecutor())

    # The iterator is more than one.
    with amorsize.map(one, numbers) as stream:
        assert_type(next(stream), str)
        assert_type(stream.plan, Plan | None)

    # Decorated functions: bare and called.
    assert_type(bare(1, height=2), float)
    assert_type(bare.map(numbers), Stream[float])
    assert_type(bare.map(numbers, height=3), Stream[float])
    assert_type(bare.starmap([(1, 2)]), Stream[float])
    assert_type(bare.with_options(n_jobs=2).map(numbers), Stream[float])
    assert_type(bare.optimize(numbers), OptimizedPlan)
    assert_type(called("a"), bytes)
    assert_type(called.map(texts), Stream[bytes])
    bare("a")  # type: ignore[arg-type]
    bare.with_options(njobs=2)  # type: ignore[call-arg]

    # Mapping over a parameter.
    assert_type(over(texts, size=2), list[bytes])
    assert_type(over.map(texts, size=2), Stream[bytes])

    # Methods.
    assert_type(Cart().price(1, count=2), float)
    assert_type(Cart().price.map(numbers), Stream[float])
    assert_type(Cart.price(Cart(), 1), float)
    Cart().price("a")  # type: ignore[arg-type]

    # The rest.
    assert_type(amorsize.optimize(one, numbers), OptimizedPlan)
    assert_type(amorsize.get_cache_dir(), Path)
    parallel: Parallelized[[int], str] = amorsize.parallelize(one)
    with amorsize.config(n_jobs=2):
        pass
