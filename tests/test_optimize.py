"""The advisor for users who drive a Pool of their own, on simulated clocks and a fixed machine."""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.process
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from amorsize import context
from amorsize.cache import lookup
from amorsize.errors import UnsupportedError
from amorsize.measure import machine
from amorsize.options import config
from amorsize.plan.profile import MachineProfile, WorkProfile

# The module; the package has the function under the same name.
advisor = importlib.import_module("amorsize.advise")
optimize = advisor.optimize

TWO_CORES = MachineProfile(2, 2, 8_000_000_000, "fork", 0.011, 0.003, 20e-6)


class Clock:
    """A clock that moves only when told; calling it as a function reads it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


clock = Clock()
calls = []


def cheap(item):
    calls.append(item)
    clock.now += 1e-7
    return item


def dear(item):
    calls.append(item)
    clock.now += 0.010
    return item


def faulty(item):
    calls.append(item)
    clock.now += 0.010
    if item == 0:
        raise ValueError("no zero")
    return item


def stuck(item):
    clock.now += 0.010
    return threading.Lock()


class Wrapped:
    """As the decorator leaves a function: the name is an object that has the plain function."""

    def __init__(self, function):
        self._amorsize_function = function

    def __call__(self, item):
        raise AssertionError("the plain function is what is measured")

    def __reduce__(self):
        return "wrapped"


wrapped = Wrapped(dear)


@Wrapped
def decorated(item):
    return dear(item)


@pytest.fixture(autouse=True)
def fixed_world(monkeypatch):
    """Two quiet cores, and time that moves only in items."""
    monkeypatch.setattr(advisor, "time", SimpleNamespace(perf_counter=clock, process_time=clock))
    monkeypatch.setattr(machine, "machine_profile", lambda method, **_: TWO_CORES._replace(start_method=method))
    monkeypatch.setattr(machine, "cores", lambda: TWO_CORES.cores)
    advisor._surroundings.cache_clear()
    calls.clear()
    yield
    advisor._surroundings.cache_clear()


def test_dear_items_get_all_cores():
    """A thousand items of 10 ms go to as many processes as there are cores."""
    plan = optimize(dear, range(1000))
    assert (plan.backend, plan.n_jobs, plan.cache_hit) == ("processes", 2, False)
    assert plan.estimated_speedup > 1.5
    assert 1 <= plan.chunksize <= 125
    assert "2 workers" in plan.reason or "processes" in plan.reason


def test_cheap_items_stay_serial():
    """Items that a worker could not repay stay in the caller."""
    plan = optimize(cheap, range(1000))
    assert (plan.backend, plan.n_jobs) == ("serial", 1)
    assert plan.reason.startswith("serial")


@pytest.mark.slow
def test_plan_is_fit_for_a_real_pool():
    """The number of workers and the chunk size are what a Pool takes, and its answer is the builtin's."""
    plan = optimize(dear, (item for item in range(100)))
    with multiprocessing.get_context("spawn").Pool(plan.n_jobs) as pool:
        assert pool.map(abs, plan.data, chunksize=plan.chunksize) == list(range(100))
        pool.close()
        pool.join()


@pytest.mark.parametrize("data", [[], (), range(0), "", iter(()), {}], ids=lambda data: type(data).__name__)
def test_no_items_are_serial(data):
    """Nothing to do needs no worker, and the reason says so."""
    plan = optimize(dear, data)
    assert (plan.backend, plan.n_jobs, plan.chunksize) == ("serial", 1, 1)
    assert "no items" in plan.reason
    assert list(plan.data) == []


def test_sequence_is_given_back_itself():
    """A list is the same object afterwards."""
    data = list(range(50))
    assert optimize(dear, data).data is data


def test_generator_is_given_back_whole():
    """What was sampled stands in front of the rest again."""
    plan = optimize(dear, (item for item in range(40)))
    assert calls
    assert list(plan.data) == list(range(40))


def test_short_generator_is_known_by_its_end():
    """A generator that ended while it was sampled has a known length, so nothing is guessed."""
    plan = optimize(cheap, (item for item in range(3)))
    assert list(plan.data) == [0, 1, 2]
    assert plan.warnings == ()


def test_unknown_length_is_said():
    """The plan for an input of unknown length tells what it was taken for."""
    plan = optimize(dear, (item for item in range(40)))
    assert any("does not tell its length" in text for text in plan.warnings)
    assert plan.backend == "processes"


def test_second_question_is_answered_from_the_cache():
    """What was measured once is not measured again."""
    first = optimize(dear, range(1000))
    calls.clear()
    second = optimize(dear, range(1000))
    assert calls == []
    assert second.cache_hit
    assert tuple(second)[:4] == tuple(first)[:4]


def test_plan_from_the_cache_is_for_this_length():
    """A profile serves every length of its size, each with a chunk size of its own."""
    optimize(dear, range(2000))
    plan = optimize(dear, range(1001))
    assert plan.cache_hit
    assert plan.serial_seconds == pytest.approx(10.01, rel=0.01)
    assert plan.chunksize * plan.n_jobs <= 1001


def test_without_cache_nothing_is_read_or_written():
    """use_cache=False measures, and leaves no trace."""
    optimize(dear, range(1000), use_cache=False)
    assert not optimize(dear, range(1000)).cache_hit
    calls.clear()
    assert not optimize(dear, range(1000), use_cache=False).cache_hit
    assert calls


def test_profile_is_measured_afresh():
    """profile=True reads no cache and gives what it measured; otherwise no profile is given."""
    assert optimize(dear, range(1000)).profile is None
    calls.clear()
    plan = optimize(dear, range(1000), profile=True)
    assert calls
    assert not plan.cache_hit
    assert plan.profile.seconds_per_item == pytest.approx(0.010)
    assert plan.profile.bytes_in is not None


def test_profile_of_serial_work_has_sizes_too():
    """Whoever asks for the profile gets all of it, whatever the plan."""
    plan = optimize(cheap, range(100), profile=True)
    assert plan.backend == "serial"
    assert plan.profile.bytes_in > 0
    assert plan.profile.bytes_out > 0


def test_unknown_length_does_not_use_the_cache():
    """A generator is measured each time."""
    optimize(dear, (item for item in range(1000)))
    calls.clear()
    assert not optimize(dear, (item for item in range(1000))).cache_hit
    assert calls


def test_profile_that_never_crossed_is_measured_again_before_processes():
    """A cached profile from a serial run does not tell whether its items can be pickled."""
    system = lookup.System(
        TWO_CORES.physical_cores, machine.configured_start_method(), None, advisor.sys.platform, advisor._PYTHON
    )
    lookup.store(stuck, 1000, WorkProfile(20, 0.010), None, system)
    plan = optimize(stuck, range(1000))
    assert (plan.backend, plan.cache_hit) == ("serial", False)


def test_failing_item_is_a_warning():
    """An item that raises while it is sampled counts, is named, and breaks nothing."""
    plan = optimize(faulty, list(range(100)))
    assert plan.backend == "processes"
    assert any("item 0 raised ValueError" in text and "no zero" in text for text in plan.warnings)


def test_items_that_all_fail_still_give_a_plan():
    """A function that only raises is planned by its time."""
    plan = optimize(faulty, [0] * 100)
    assert plan.backend == "processes"
    assert any("more of" in text for text in plan.warnings)


@pytest.mark.parametrize(
    ("func", "data", "words"),
    [
        (lambda item: dear(item) + 1, range(1000), "the function cannot be pickled"),
        (stuck, range(1000), "a result, of type lock"),
        (lambda item: dear(1), [threading.Lock() for _ in range(1000)], "cannot be pickled"),
    ],
    ids=["function", "result", "item"],
)
def test_what_a_pool_cannot_take_stays_serial(func, data, words):
    """Under "auto", what cannot be pickled stays serial, and reason and warning say what it is."""
    plan = optimize(func, data)
    assert plan.backend == "serial"
    assert words in plan.reason
    assert any(words in text for text in plan.warnings)


def test_explicit_processes_are_obeyed_with_a_warning():
    """Named processes stay the plan; that a stock Pool cannot take the function is said."""
    plan = optimize(lambda item: dear(item) + 1, range(1000), backend="processes")
    assert plan.backend == "processes"
    assert any("cannot be pickled" in text for text in plan.warnings)


def test_decorated_function_is_measured_plain():
    """The decorator's object stands for its function."""
    plan = optimize(wrapped, range(1000))
    assert calls
    assert plan.backend == "processes"
    assert optimize(dear, range(1000)).cache_hit


def test_decorated_original_can_cross():
    """The decorator asks for its plain function, which is sent by the name that the decorated one holds."""
    plan = optimize(decorated._amorsize_function, range(1000))
    assert (plan.backend, plan.warnings) == ("processes", ())


def test_configured_default_is_heeded():
    """A block without cache covers a call that says nothing of it."""
    with config(use_cache=False):
        optimize(dear, range(1000))
    assert not optimize(dear, range(1000)).cache_hit


def test_containers_methods_are_not_sampled():
    """A bound method of a container is there for what it changes, so it is neither run nor sent away."""
    seen = []
    plan = optimize(seen.append, range(1000))
    assert plan.backend == "serial"
    assert seen == []


@pytest.mark.parametrize(
    ("n_jobs", "workers", "cores"), [(None, 4, 4), (-1, 4, 4), (-2, 3, 4), (-9, 1, 4), (3, 3, 4), (2, 2, 4)]
)
def test_number_of_workers(monkeypatch, n_jobs, workers, cores):
    """None and -1 are all cores, -2 is all but one, a number is exact."""
    here = TWO_CORES._replace(cores=cores, physical_cores=cores)
    monkeypatch.setattr(machine, "machine_profile", lambda _start_method, **_: here)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    assert optimize(dear, range(1000), n_jobs=n_jobs, backend="processes").n_jobs == workers


def test_one_worker_is_serial_under_auto():
    """One worker gains nothing over the caller, unless processes were named."""
    assert optimize(dear, range(1000), n_jobs=1).backend == "serial"
    plan = optimize(dear, range(1000), n_jobs=1, backend="processes")
    assert (plan.backend, plan.n_jobs) == ("processes", 1)


def test_fixed_chunk_size_is_exact():
    """A number given is the number planned."""
    assert optimize(dear, range(1000), chunksize=7).chunksize == 7


@pytest.mark.parametrize("backend", ["serial", "processes", "pool"])
def test_named_backend_is_obeyed(backend):
    """What is named is what is planned, pay or not."""
    assert optimize(cheap, range(100), backend=backend).backend == backend
    assert optimize(dear, range(100), backend=backend).backend == backend


@pytest.mark.parametrize("backend", ["threads", "dask", "ray", object()])
def test_backend_that_is_no_pool_is_refused(backend):
    """What a Pool cannot stand for is refused before anything runs."""
    with pytest.raises(UnsupportedError, match="backend must be"):
        optimize(dear, range(100), backend=backend)
    assert calls == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"n_jobs": 0}, ValueError),
        ({"n_jobs": "2"}, TypeError),
        ({"n_job": 2}, TypeError),
        ({"use_cache": 1}, TypeError),
        ({"profile": 1}, TypeError),
    ],
)
def test_unfit_option_is_refused(options, error):
    """Options are checked before anything runs."""
    with pytest.raises(error):
        optimize(dear, range(100), **options)
    assert calls == []


def test_environment_is_heeded(monkeypatch):
    """A backend named in the environment counts as everywhere else."""
    monkeypatch.setenv("AMORSIZE_BACKEND", "serial")
    assert optimize(dear, range(1000)).backend == "serial"


def test_inside_a_worker_everything_is_serial():
    """Workers of workers would exceed the cores."""
    token = context.in_worker.set(True)
    try:
        plan = optimize(dear, range(1000))
        assert plan.backend == "serial"
        assert "worker" in plan.reason
        assert optimize(dear, range(1000), backend="processes").backend == "serial"
    finally:
        context.in_worker.reset(token)


def test_daemon_process_has_no_pool(monkeypatch):
    """A daemon process may not start others: "auto" stays serial, naming them is refused."""
    daemon = SimpleNamespace(daemon=True)
    monkeypatch.setattr(multiprocessing.process, "current_process", lambda: daemon)
    assert optimize(dear, range(1000)).backend == "serial"
    with pytest.raises(UnsupportedError, match="daemon"):
        optimize(dear, range(1000), backend="processes")


def test_explanation_is_text():
    """The alternatives are told with the choice."""
    text = optimize(dear, range(1000)).explain()
    assert "processes" in text
    assert "serial" in text


def test_input_that_breaks_is_the_caller_s_error():
    """An input's own exception passes."""

    def broken():
        yield 1
        raise OSError("input broke")

    with pytest.raises(OSError, match="input broke"):
        optimize(cheap, broken())


@given(
    st.floats(min_value=0, max_value=1e6),
    st.integers(min_value=1, max_value=10**9),
    st.integers(min_value=1, max_value=256),
)
def test_pool_chunks_are_bounded_by_time_and_by_the_input(seconds_per_item, n_items, n_jobs):
    """Every worker gets a chunk; chunks are four a worker, or longer to be worth it, or shorter to stay movable."""
    chunksize = advisor._pool_chunksize(WorkProfile(5, seconds_per_item), n_items, n_jobs)
    share = -(-n_items // n_jobs)
    assert 1 <= chunksize <= share
    if chunksize > -(-share // advisor.CHUNKS_PER_WORKER):
        assert (chunksize - 1) * seconds_per_item <= advisor.LEAST_CHUNK_SECONDS * 1.01
    elif chunksize < -(-share // advisor.CHUNKS_PER_WORKER):
        assert (chunksize + 1) * seconds_per_item >= advisor.MOST_CHUNK_SECONDS * 0.99


def test_growth_of_memory_is_told_by_a_new_peak():
    """A new peak counts from where memory stood before; without one, what is left counts."""
    assert advisor._growth((100, 500), (120, 500)) == 20
    assert advisor._growth((100, 500), (120, 900)) == 800
    assert advisor._growth((100, 500), (80, 500)) == 0
    assert advisor._growth(None, (80, 500)) == 0
