"""What a call may expect of any backend, row by row, and of a toy: chunks go in, each item comes back once, somehow."""

from __future__ import annotations

import gc
import multiprocessing
import operator
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pool_workers
import pytest
import toy_backend
import workers

from amorsize.backends import rows
from amorsize.backends.base import Unsendable
from amorsize.backends.events import Broken, Chunk, Lost, Refused, Results, Returned
from amorsize.backends.registry import Job, open_backend
from amorsize.errors import WorkerCrashError
from amorsize.transport.serialize import Outgoing

GUARD_SECONDS = 30
METHODS = [method for method in ("fork", "spawn", "forkserver") if method in multiprocessing.get_all_start_methods()]
FORKED = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def _pool(method):
    return multiprocessing.get_context(method).Pool(2)


def _process_executor(method):
    return ProcessPoolExecutor(2, multiprocessing.get_context(method))


def _thread_executor(method):
    return ThreadPoolExecutor(2)


# What a user may give as `backend=`; test_engines.py has the rows for which something must be installed.
TARGETS = [(_pool, METHODS), (_process_executor, METHODS), (_thread_executor, METHODS[:1])]


def _every_row():
    for row in [*rows.ROWS, toy_backend.ROW]:
        if row.module and row.accepts is None and row.extra is None:
            for method in METHODS if row.can.starts_processes else METHODS[:1]:
                yield _param(row, method, None)
    for make, methods in TARGETS:
        for method in methods:
            yield _param(None, method, make)


def _param(row, method, make):
    name = row.name if row else make.__name__.strip("_")
    return pytest.param((row, method, make), id=f"{name}-{method}", marks=[FORKED] if method == "fork" else [])


@pytest.fixture(params=_every_row())
def given(request):
    """Give a row, or None where its object is given, the start method, and what makes that object."""
    return request.param


@pytest.fixture
def target(given):
    """Give the object that a user would give as `backend=`; None where it is a name."""
    _, method, make = given
    made = make(method) if make else None
    yield made
    if hasattr(made, "terminate"):
        made.terminate()
        made.join()
    elif made is not None:
        made.shutdown()


@pytest.fixture
def row(given, target):
    return given[0] or rows.row_of(target)


@pytest.fixture
def opened(given, row, target):
    """Give a function that opens the row's backend for a user's function."""
    backends = []

    def make(function=operator.neg, **job):
        width = job.pop("width", 2)
        made = open_backend(row, Job(function, Outgoing(), width, given[1], **job), target)
        backends.append(made)
        return made

    yield make
    for made in backends:
        made.close(hurry=True)
    # The semaphores of pools go now, and not while CPython 3.12 is starting its resource tracker, which it cannot bear.
    backends.clear()
    gc.collect()


def drained(backend, chunks=(), slice_seconds=0.0):
    """Submit chunks as there is room, and what comes back again; return all events but those."""
    waiting, events = list(chunks), []
    deadline = time.monotonic() + GUARD_SECONDS
    while waiting or backend.busy():
        assert time.monotonic() < deadline, events
        while waiting and backend.room(None) > 0:
            backend.submit(waiting.pop(0), slice_seconds)
        backend.flush()
        for event in backend.wait(0.5):
            if isinstance(event, Returned):
                waiting.append(event.chunk)
            else:
                events.append(event)
    return events


def values(events):
    """Return the results by position, each of which must be there once."""
    found = {}
    for event in events:
        assert isinstance(event, Results), event
        for index, value in enumerate(event.values, event.first):
            assert index not in found
            found[index] = value
    return found


def test_every_item_comes_back_in_its_place_once(opened):
    """Whoever ran it, and in whatever order the chunks end."""
    chunks = [Chunk(first, list(range(first, first + 3))) for first in range(0, 30, 3)]

    assert values(drained(opened(), chunks)) == {index: -index for index in range(30)}


def test_what_the_input_was_cut_into_does_not_matter(opened):
    """Ranges, tuples of scalars and objects cross alike."""
    backend = opened(workers.first)
    chunks = [Chunk(0, [(1, "a")]), Chunk(1, [[2], {0: 3}]), Chunk(3, [(4,)])]

    assert values(drained(backend, chunks)) == {0: 1, 1: 2, 2: 3, 3: 4}


def test_what_raised_is_told_with_its_item(opened):
    """Errors have their item's position; with a chunk that stops there, the rest comes back and runs later."""
    backend = opened(int, stop_at_error=True)
    (first, *others) = drained(backend, [Chunk(5, ["1", "x", "3"])])

    assert (first.first, list(first.values)) == (5, [1, None])
    assert list(first.failures) == [6]
    assert type(first.failures[6].error) is ValueError
    assert first.failures[6].item == "x"
    assert values(others) == {7: 3}


def test_errors_need_not_end_a_chunk(opened):
    """Where the call goes on, so does the chunk."""
    events = drained(opened(int, stop_at_error=False), [Chunk(0, ["x", "2", "y", "4"])])

    assert values(events) == {0: None, 1: 2, 2: None, 3: 4}
    assert sorted(index for event in events for index in event.failures) == [0, 2]


def test_a_time_slice_hands_back_what_was_not_started(opened):
    """Nothing of it is lost, and nothing runs twice."""
    events = drained(opened(workers.slowly), [Chunk(0, list(range(12)))], slice_seconds=0.02)

    assert values(events) == {index: index for index in range(12)}
    assert len(events) > 1


def test_items_that_cannot_be_sent_are_named(opened, row):
    """Before anything of their chunk left; what stays in the process need not be sent."""
    if not row.can.crosses:
        pytest.skip("nothing crosses")
    backend = opened(workers.first)

    with pytest.raises(Unsendable) as caught:
        backend.submit(Chunk(7, [[1], [threading.Lock()], [3]]), 0.0)
    assert caught.value.index == 8
    assert not backend.busy()


def test_a_function_that_cannot_be_rebuilt_is_refused(opened, row):
    """With its chunk, of which nothing ran."""
    if not row.can.crosses:
        pytest.skip("nothing is rebuilt")
    backend = opened(pool_workers.Unrebuildable())
    events = drained(backend, [Chunk(0, [1, 2])])

    assert [type(event) for event in events] == [Refused]
    assert events[0].chunk == Chunk(0, [1, 2])


def test_a_death_is_told_and_hangs_nothing(opened, row):
    """The items of the dead worker's chunk are told, each once: lost, or to be run again."""
    if not row.can.crosses:
        pytest.skip("no process of its own")
    backend = opened(pool_workers.Always(1, pool_workers.die), width=1)
    backend.submit(Chunk(0, [0, 1, 2]), 0.0)
    backend.flush()
    events = []
    deadline = time.monotonic() + GUARD_SECONDS
    while not any(isinstance(event, Lost | Broken) for event in events):
        assert time.monotonic() < deadline
        events += backend.wait(0.5)
    if isinstance(events[-1], Broken):  # the backend is gone with its worker, and what it had comes back
        assert events == [Returned(Chunk(0, [0, 1, 2])), Broken(events[-1].error)]
        assert isinstance(events[-1].error, WorkerCrashError)
        return
    (lost,) = [event for event in events if isinstance(event, Lost)]
    parts = [part for part in (lost.running, lost.finished, lost.rest) if part is not None]
    told = [index for part in parts for index in range(part.first, part.first + len(part.items))]

    assert sorted(told + list(values(event for event in events if event is not lost))) == [0, 1, 2]
    assert lost.exitcode != 0


def test_chunks_can_be_asked_back(opened):
    """What has not begun may come back; with what ran, all is there once."""
    backend = opened(workers.slowly, width=1)
    submitted = 0
    while backend.room(None) > 0 and submitted < 6:
        backend.submit(Chunk(submitted, [submitted]), 0.0)
        submitted += 1
    backend.ask_back()

    assert values(drained(backend)) == {index: index for index in range(submitted)}


def test_its_width_can_be_asked_for(opened):
    """Another width is taken where that can be, and work goes on in any case."""
    backend = opened(width=1)
    backend.resize(2)

    assert backend.width in {1, 2}
    assert values(drained(backend, [Chunk(index, [index]) for index in range(8)])) == {i: -i for i in range(8)}
    assert isinstance(backend.route, str)


def test_it_ends_to_be_starting(opened):
    """Once there are results, no worker is still on its way for want of a start."""
    backend = opened()
    drained(backend, [Chunk(0, [1])])

    assert not backend.starting()


def test_waiting_for_nothing_ends(opened):
    """A time limit is kept where nothing is under way."""
    assert opened().wait(0.0) == []


@pytest.mark.parametrize("hurry", [False, True])
def test_closing_in_the_middle(opened, hurry):
    """Nobody waits for what nobody wants, and a second time nothing happens. Fixtures see what is left."""
    backend = opened(workers.slowly)
    for index in range(4):
        if backend.room(None) > 0:
            backend.submit(Chunk(index, [index]), 0.0)
    backend.flush()
    began = time.monotonic()
    backend.close(hurry=hurry)
    backend.close()
    backend.close(hurry=True)

    assert time.monotonic() - began < GUARD_SECONDS


def test_who_ran_it_and_when(opened):
    """Results say which worker, when the chunk was given to it, and how much later it began, as far as is known."""
    before = time.perf_counter()
    events = drained(opened(workers.slowly), [Chunk(0, [1]), Chunk(1, [2])])

    for event in events:
        assert event.worker is None or event.worker > 0
        assert event.began is None or (event.sent >= before and 0 <= event.began < GUARD_SECONDS)
