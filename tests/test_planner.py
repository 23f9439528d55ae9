"""The planner: the right choice with its reason, within every limit, for every finite profile."""

from __future__ import annotations

from math import isnan

import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given
from hypothesis import strategies as st

from amorsize.plan.model import caller_seconds_per_item, predict_seconds
from amorsize.plan.planner import Plan, best_width, choose, seconds_in_words, widest
from amorsize.plan.profile import Bandwidth, Limits, MachineProfile, WorkProfile

COLD = MachineProfile(2, 2, None, "fork", seconds_first_start=0.010, seconds_next_start=0.001)
WARM = COLD._replace(warm_workers=2)


def _plausible(largest: float) -> st.SearchStrategy[float]:
    return st.one_of(st.just(0.0), st.floats(1e-9, largest))


BANDWIDTHS = st.builds(Bandwidth, st.floats(1e6, 1e11), st.floats(1e6, 1e11))
works = st.builds(
    WorkProfile,
    items=st.integers(1, 10**6),
    seconds_per_item=_plausible(100.0),
    seconds_std=_plausible(100.0),
    seconds_max=_plausible(100.0),
    cpu_share=st.floats(0.0, 8.0),
    bytes_in=st.none() | _plausible(1e9),
    bytes_out=st.none() | _plausible(1e9),
    transfer_seconds_per_item=_plausible(1.0),
    memory_bytes=_plausible(1e10),
)
machines = st.builds(
    MachineProfile,
    cores=st.integers(1, 256),
    physical_cores=st.integers(1, 256),
    available_memory=st.none() | st.integers(0, 10**12),
    start_method=st.sampled_from(["fork", "spawn", "forkserver"]),
    seconds_first_start=_plausible(10.0),
    seconds_next_start=_plausible(1.0),
    seconds_per_chunk=st.floats(1e-6, 1e-2),
    pipe=BANDWIDTHS,
    worker_bytes=st.integers(1, 10**9),
    warm_workers=st.integers(0, 300),
    seconds_per_call=_plausible(1.0),
    seconds_load=_plausible(10.0),
    prediction_error=st.floats(0.0, 1.0),
    shared=st.none() | BANDWIDTHS,
)
limits = st.builds(
    Limits,
    n_jobs=st.none() | st.integers(1, 300),
    chunksize=st.none() | st.integers(1, 10**5),
    backends=st.sampled_from([("serial", "processes"), ("serial",), ("processes",)]),
)
counts = st.integers(0, 10**7)
finite = st.floats(allow_nan=False, allow_infinity=False)


def _workers(plan: Plan) -> int:
    return 0 if plan.backend == "serial" else plan.n_jobs


@pytest.mark.parametrize(
    ("n_items", "seconds_per_item", "machine", "workers"),
    [
        (1_000_000, 50e-9, WARM, 0),
        (20_000, 50e-9, WARM, 0),
        (1_000, 3e-6, COLD, 0),
        (100_000, 10e-6, COLD, 2),
        (2_000, 1e-3, COLD, 2),
        (20, 50e-3, COLD, 2),
        (4, 1.0, COLD, 2),
        (2, 1.0, COLD._replace(cores=8), 2),
        (1, 5.0, WARM, 0),
        (0, 5.0, WARM, 0),
        (10, 1e-3, COLD, 0),
        (10, 1e-3, WARM, 2),
    ],
)
def test_choice(n_items: int, seconds_per_item: float, machine: MachineProfile, workers: int) -> None:
    """Work that repays workers gets them, and other work does not."""
    assert _workers(choose(WorkProfile(10, seconds_per_item), machine, n_items)) == workers


@pytest.mark.parametrize(
    ("work", "machine", "n_items", "bounds", "reason"),
    [
        (
            WorkProfile(9, 3e-6),
            COLD,
            1000,
            Limits(),
            "serial: 1,000 items of 3 us take 3 ms, starting 2 workers takes 11 ms",
        ),
        (
            WorkProfile(9, 50e-9),
            WARM,
            10**6,
            Limits(),
            "serial: 1,000,000 items of 50 ns take 50 ms, sending them to workers and fetching results takes 150 ms",
        ),
        (
            WorkProfile(9, 1e-3),
            WARM,
            2000,
            Limits(),
            "2 workers: 2,000 items of 1 ms take 2 s in the caller, about 1.04 s there",
        ),
        (WorkProfile(9, 1e-3), COLD, 0, Limits(), "serial: there are no items"),
        (WorkProfile(9, 1e-3), COLD, 1, Limits(), "serial: one item cannot be shared out"),
        (WorkProfile(9, 1e-3), COLD, 9, Limits(backends=("serial",)), "serial: no other backend is allowed"),
        (
            WorkProfile(9, 1.0),
            COLD,
            9,
            Limits(n_jobs=1),
            "serial: 9 items of 1 s take 9 s, n_jobs=1 leaves nobody to share them with",
        ),
        (
            WorkProfile(9, 1.0),
            COLD._replace(cores=1),
            9,
            Limits(),
            "serial: 9 items of 1 s take 9 s, and only one core may be used",
        ),
        (
            WorkProfile(9, 1.0, memory_bytes=6e8),
            COLD._replace(available_memory=10**9),
            9,
            Limits(),
            "serial: 9 items of 1 s take 9 s, and memory has room for one worker only",
        ),
        (
            WorkProfile(9, 1.0),
            COLD,
            9,
            Limits(chunksize=10),
            "serial: 9 items of 1 s take 9 s, and chunksize=10 puts them all into one chunk",
        ),
        (
            WorkProfile(9, 1.0, cpu_share=2.0),
            WARM,
            9,
            Limits(),
            "serial: 9 items of 1 s take 9 s, each keeping 2.0 cores busy by itself",
        ),
        (
            WorkProfile(9, 1e-4),
            WARM,
            2,
            Limits(),
            "serial: 2 items of 100 us take 200 us, on 2 workers 539 us",
        ),
    ],
)
def test_reason(work: WorkProfile, machine: MachineProfile, n_items: int, bounds: Limits, reason: str) -> None:
    """The reason names what decided, in plain words and with its figures."""
    assert choose(work, machine, n_items, bounds).reason == reason


def test_memory_limits_the_workers_and_says_so() -> None:
    """When fewer workers fit in memory than on the cores, the plan obeys and warns."""
    machine = WARM._replace(cores=8, available_memory=4 * 10**9, warm_workers=0)
    plan = choose(WorkProfile(9, 0.01, memory_bytes=980e6), machine, 1000)
    assert plan.n_jobs == 3
    assert plan.warnings == (
        "memory, not cores, limits the workers to 3 of 8: a worker takes 1,000 MB and 4,000 MB are free",
    )


def test_explicit_width_over_memory_is_obeyed_with_a_warning() -> None:
    """A number of workers that the user gave is exact; that it may not fit is said."""
    machine = COLD._replace(available_memory=10**9)
    plan = choose(WorkProfile(9, 0.01, memory_bytes=980e6), machine, 1000, Limits(n_jobs=2))
    assert plan.n_jobs == 2
    assert "n_jobs=2 may not fit in memory" in plan.warnings[0]


def test_no_warning_when_memory_would_not_have_decided() -> None:
    """Memory for two workers is enough for two items, however many cores there are."""
    machine = COLD._replace(cores=8, available_memory=2_600_000_000)
    assert choose(WorkProfile(9, 1.0, memory_bytes=980e6), machine, 2).warnings == ()


def test_warm_workers_memory_is_their_own() -> None:
    """Workers that run already do not have to fit a second time."""
    machine = COLD._replace(cores=2, available_memory=0, worker_bytes=10**9)
    assert widest(machine) == (1, "memory")
    assert widest(machine._replace(warm_workers=3)) == (2, "cores")


def test_no_usable_backend_is_refused() -> None:
    """Limits that leave neither the caller nor processes are an error."""
    with pytest.raises(ValueError, match="threads"):
        choose(WorkProfile(9, 1.0), COLD, 9, Limits(backends=("threads",)))


def test_ties_go_to_fewer_workers() -> None:
    """Where more workers are predicted to change nothing, one is enough."""
    machine = WARM._replace(seconds_per_chunk=0.0)
    assert choose(WorkProfile(9, 0.0), machine, 1000, Limits(backends=("processes",))).n_jobs == 1


def test_speed_up_of_serial_is_one() -> None:
    """A serial plan claims no speed-up, and a parallel one the quotient of its two predictions."""
    assert choose(WorkProfile(9, 1e-6), COLD, 9).estimated_speedup == 1.0
    plan = choose(WorkProfile(9, 1.0), COLD, 100)
    assert plan.estimated_speedup == pytest.approx(plan.serial_seconds / plan.predicted_seconds)


@given(works, machines, counts, counts, limits)
def test_more_items_never_fewer_workers(
    work: WorkProfile, machine: MachineProfile, n_items: int, more: int, bounds: Limits
) -> None:
    """All else equal, more items never mean fewer workers."""
    assert _workers(choose(work, machine, n_items + more, bounds)) >= _workers(choose(work, machine, n_items, bounds))


@given(works, machines, counts, limits, st.floats(0.0, 10.0), st.floats(0.0, 1.0))
def test_dearer_start_never_makes_workers_likelier(
    work: WorkProfile, machine: MachineProfile, n_items: int, bounds: Limits, first: float, following: float
) -> None:
    """What runs in the caller when workers start cheaply runs there when they start dearly."""
    dearer = machine._replace(
        seconds_first_start=machine.seconds_first_start + first,
        seconds_next_start=machine.seconds_next_start + following,
    )
    if choose(work, machine, n_items, bounds).backend == "serial" and "serial" in bounds.backends:
        assert choose(work, dearer, n_items, bounds).backend == "serial"


@given(works, machines, counts, limits)
def test_every_limit_is_obeyed(work: WorkProfile, machine: MachineProfile, n_items: int, bounds: Limits) -> None:
    """Backend, number of workers and chunk size are as the user fixed them, and never beyond cores otherwise."""
    plan = choose(work, machine, n_items, bounds)
    assert plan.backend in bounds.backends
    if bounds.chunksize is not None:
        assert plan.chunksize == bounds.chunksize
    assert plan.chunksize >= 1
    if plan.backend == "serial":
        assert plan.n_jobs == 1
    elif bounds.n_jobs is not None:
        assert plan.n_jobs == bounds.n_jobs
    else:
        assert 1 <= plan.n_jobs <= min(widest(machine, work)[0], max(1, n_items)) <= machine.cores


@given(works, machines, counts, limits)
def test_best_of_all_widths(work: WorkProfile, machine: MachineProfile, n_items: int, bounds: Limits) -> None:
    """No width within the limits, and not the caller, is predicted to be clearly quicker than the plan."""
    plan = choose(work, machine, n_items, bounds)
    most = min(widest(machine, work)[0], n_items) if bounds.chunksize is None else 1
    widths = range(1, most + 1) if bounds.n_jobs is None else [bounds.n_jobs]
    predicted = [
        predict_seconds(work, machine, n_items, "processes", n_jobs, bounds.chunksize)
        for n_jobs in widths
        if "processes" in bounds.backends
    ]
    if "serial" in bounds.backends:
        predicted.append(plan.serial_seconds)
    most_seconds = min(predicted, default=0.0) * (1 + machine.prediction_error)
    assert plan.predicted_seconds <= most_seconds * (1 + 1e-9) or n_items == 0


@given(works, machines, counts, limits)
def test_chosen_is_among_the_alternatives(
    work: WorkProfile, machine: MachineProfile, n_items: int, bounds: Limits
) -> None:
    """What was chosen stands in the list of what was considered, with the same prediction."""
    plan = choose(work, machine, n_items, bounds)
    assert tuple(plan[:4]) in [tuple(alternative[:4]) for alternative in plan.alternatives]


@given(
    st.builds(
        WorkProfile, st.integers(0, 2**63), finite, finite, finite, finite, st.none() | finite, finite, finite, finite
    ),
    st.builds(
        MachineProfile,
        st.integers(-5, 10**6),
        st.integers(-5, 10**6),
        st.none() | st.integers(-(2**63), 2**63),
        st.just("fork"),
        finite,
        finite,
        finite,
        st.builds(Bandwidth, finite, finite),
        st.integers(-(2**63), 2**63),
        st.integers(-5, 10**6),
        shared=st.none() | st.builds(Bandwidth, finite, finite),
    ),
    st.integers(-5, 2**63),
    limits,
)
@example(WorkProfile(1, 1e308, 1e308, 1e308), COLD._replace(cores=4), 2**63, Limits())
@example(WorkProfile(1, 5e-324, 1e308), COLD._replace(seconds_per_chunk=1e308), 2**63, Limits())
def test_never_raises_on_a_finite_profile(
    work: WorkProfile, machine: MachineProfile, n_items: int, bounds: Limits
) -> None:
    """However odd the finite numbers, a plan comes out, with numbers in it and words to it."""
    plan = choose(work, machine, n_items, bounds)
    assert not isnan(plan.predicted_seconds)
    assert plan.reason
    assert plan.n_jobs >= 1
    assert plan.chunksize >= 1


@given(works, machines, counts)
def test_waiting_work_stays_within_the_cores(work: WorkProfile, machine: MachineProfile, n_items: int) -> None:
    """Work that only waits gets no more processes than cores either."""
    assert best_width(work._replace(cpu_share=0.0), machine, n_items) <= machine.cores


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (1e-12, "under 1 ns"), (999.6e-6, "1,000 us"), (59.9, "59.9 s"), (1e9, "277,778 h")],
)
def test_seconds_in_words(seconds: float, text: str) -> None:
    """Durations are said in the unit that people would use."""
    assert seconds_in_words(seconds) == text


class TestLargeValues:
    """What crosses in shared memory is cheaper than what crosses in messages, and the words say how much it is."""

    HERE = WARM._replace(pipe=Bandwidth(1e9, 1e9), shared=Bandwidth(8e9, 4e9))

    def test_they_are_priced_by_their_way(self):
        """From a size on, the bandwidth of shared memory counts."""
        small, large = (WorkProfile(100, 0.01, bytes_in=nbytes) for nbytes in (60_000.0, 80_000.0))

        assert caller_seconds_per_item(small, self.HERE) > caller_seconds_per_item(large, self.HERE)
        without = self.HERE._replace(shared=None)
        ratio = caller_seconds_per_item(large, without) / caller_seconds_per_item(large, self.HERE)
        assert ratio == pytest.approx(8, rel=0.05)

    @pytest.mark.parametrize("seconds", [0.0001, 0.1])
    def test_the_words(self, seconds):
        """Of work that moves, and of work that stays because of what it would have to send."""
        work = WorkProfile(100, seconds, bytes_in=8e6, bytes_out=8.0)

        assert "(800 MB to workers in shared memory at 8.0 GB/s)" in choose(work, self.HERE, 100).reason
        both = work._replace(bytes_out=5e5)
        told = "(800 MB to workers in shared memory at 8.0 GB/s, 50 MB back in shared memory at 4.0 GB/s)"
        assert told in choose(both, self.HERE, 100).reason
        slow = self.HERE._replace(shared=None)
        assert "(800 MB to workers through pipes at 1.0 GB/s)" in choose(work, slow, 100).reason
