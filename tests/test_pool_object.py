"""`amorsize.Pool`: the standard Pool's results and errors, for code that asks for a pool object."""

from __future__ import annotations

import contextlib
import os
import pickle
from multiprocessing.pool import ThreadPool

import pytest

import amorsize
from amorsize.measure import machine


def square(number):
    return number * number


def failing(number):
    if number == 3:
        raise KeyError(number)
    return number


def process(_):
    return os.getpid()


told = []


def tell(word):
    told.append(word)


def what_was_told(_):
    return told


@pytest.fixture(params=[{}, {"backend": "processes", "n_jobs": 2}], ids=["auto", "processes"])
def pools(request):
    """Give a pool of ours and one of the standard library's."""
    with amorsize.Pool(**request.param) as ours, ThreadPool(2) as theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    "ask",
    [
        lambda pool: pool.map(square, range(20)),
        lambda pool: pool.map(square, range(20), 3),
        lambda pool: pool.map(square, iter(range(20)), chunksize=3),
        lambda pool: pool.map(square, []),
        lambda pool: pool.starmap(pow, [(2, 5), (3, 2)]),
        lambda pool: pool.starmap(pow, zip([2, 3], [5, 2], strict=True), chunksize=1),
        lambda pool: list(pool.imap(square, range(20))),
        lambda pool: list(pool.imap(square, range(20), 4)),
        lambda pool: sorted(pool.imap_unordered(square, range(20), chunksize=2)),
        lambda pool: pool.apply(pow, (2, 5)),
        lambda pool: pool.apply(pow, [2], {"exp": 5}),
        lambda pool: pool.apply(dict, kwds={"a": 1}),
    ],
)
def test_the_standard_pools_results(pools, ask):
    """They are the same, and of the same type."""
    ours, theirs = map(ask, pools)

    assert type(ours) is type(theirs)
    assert ours == theirs


@pytest.mark.parametrize(
    "ask",
    [
        lambda pool: pool.map(failing, range(6)),
        lambda pool: pool.starmap(failing, [(3,)]),
        lambda pool: list(pool.imap(failing, range(6))),
        lambda pool: pool.apply(failing, (3,)),
    ],
)
def test_errors_are_the_functions(pools, ask):
    """They come out of the method that was called."""
    for pool in pools:
        with pytest.raises(KeyError):
            ask(pool)


def test_its_options_hold_for_every_call():
    """Among them the number of workers and their initializer."""
    with amorsize.Pool(2, tell, ("yes",), backend="processes") as pool:
        assert pool.size == 2
        assert pool.map(what_was_told, range(3)) == [["yes"]] * 3
        assert os.getpid() not in pool.map(process, range(4))
        assert os.getpid() != pool.apply(process, (0,))


@pytest.mark.parametrize(("n_jobs", "expected"), [(None, 4), (3, 3), (-1, 4), (-2, 3)])
def test_its_size(monkeypatch, n_jobs, expected):
    """As many as were asked for, or as there are cores."""
    monkeypatch.setattr(machine, "cores", lambda: 4)

    assert amorsize.Pool(n_jobs).size == expected


def test_what_is_unfit_is_refused_at_once():
    """With the names of what there is."""
    with pytest.raises(TypeError, match=r"Pool\(\) got an unexpected option 'processes'"):
        amorsize.Pool(processes=2)
    with pytest.raises(ValueError, match="n_jobs"):
        amorsize.Pool(0)
    with pytest.raises(ValueError, match="chunksize"):
        amorsize.Pool().map(abs, [1], chunksize=0)


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_closed_pool_takes_no_more_work(end):
    """As the standard one; `join` waits for it to be closed."""
    pool = amorsize.Pool()
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    getattr(pool, end)()
    pool.join()

    for ask in (pool.map, pool.starmap, pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="not running"):
            ask(abs, [])
    with pytest.raises(ValueError, match="not running"):
        pool.apply(abs, (1,))
    with pytest.raises(ValueError, match="not running"), pool:
        pass


def test_iterators_outlive_a_block_that_ends_well():
    """No result is lost because the block was left first."""
    with amorsize.Pool() as pool:
        results = pool.imap(square, range(5))
        first = next(results)

    assert [first, *results] == [0, 1, 4, 9, 16]


def test_terminating_ends_them():
    """So does an error that leaves the block."""
    with amorsize.Pool() as pool:
        kept = pool.imap(square, range(5))
        pool.terminate()
    with contextlib.suppress(LookupError), amorsize.Pool() as pool:
        left = pool.imap(square, range(5))
        next(left)
        raise LookupError

    assert list(kept) == list(left) == []


class Model:
    """An object that holds its pool, and maps a method of its own."""

    def __init__(self, pool):
        self.pool = pool

    def value(self, number):
        return sum(self.pool.map(square, range(number)))

    def values(self):
        return self.pool.map(self.value, range(5))


def test_an_object_that_holds_its_pool_goes_to_workers():
    """There the pool works, in the worker itself."""
    with amorsize.Pool(2, backend="processes") as pool:
        assert Model(pool).values() == [0, 0, 1, 5, 14]


def test_a_pool_is_pickled_with_its_options_and_state():
    """Streams that it has handed out stay behind."""
    pool = amorsize.Pool(2, backend="serial")
    kept = pool.imap(square, range(3))
    again = pickle.loads(pickle.dumps(pool))

    assert repr(again) == repr(pool) == "<amorsize.Pool running backend='serial' n_jobs=2>"
    assert list(kept) == [0, 1, 4]
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pickle.loads(pickle.dumps(pool)).map(abs, [1])


def test_a_decorated_function_brings_its_options():
    """The pool's come first."""

    @amorsize.parallelize(backend="serial")
    def here(_):
        return os.getpid()

    assert set(amorsize.Pool().map(here, range(3))) == {os.getpid()}
    assert os.getpid() not in amorsize.Pool(2, backend="processes").map(here, range(3))


def test_where_it_replaces_the_builtin(monkeypatch):
    """A pool maps as it always does."""
    import builtins

    monkeypatch.setattr(builtins, "map", amorsize.map)

    assert amorsize.Pool(2, backend="processes").map(process, range(3)) != [os.getpid()] * 3
