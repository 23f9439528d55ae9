"""One call's decisions: when it leaves the caller, when it comes back, and what it remembers."""

from __future__ import annotations

import itertools
import multiprocessing.process
import sys
from collections import Counter
from time import monotonic
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from toy_backend import InTurn

import amorsize
from amorsize.backends.events import Refused, Returned
from amorsize.backends.registry import Job
from amorsize.backends.rows import PROCESSES
from amorsize.cache import lookup
from amorsize.cache.lookup import Found
from amorsize.call import caller as serial_module
from amorsize.call import move as move_module
from amorsize.call import policy as policy_module
from amorsize.call import starting as starting_module
from amorsize.call.driver import Call
from amorsize.code import fingerprint
from amorsize.errors import SerializationError
from amorsize.feed.pump import Pump
from amorsize.measure import machine, sampling
from amorsize.measure.sampling import Transfer
from amorsize.measure.startup import Costs
from amorsize.measure.times import ItemTimes
from amorsize.plan import escalate
from amorsize.plan.profile import WorkProfile
from amorsize.transport import bound, serialize

STEP = 0.010  # seconds that an item takes, by the clock of these tests


class Clock:
    """A clock that moves when an item runs."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Elsewhere(InTurn):
    """Runs its chunks in this process, or refuses them, or hands them back."""

    def __init__(self, job, world):
        super().__init__(job)
        self.world = world

    def wait(self, timeout=None):
        if self.world.refuses:
            return [Refused(self._chunks.popleft()[0], SerializationError("unknown there"))]
        if self.world.hands_back:
            return [Returned(self._chunks.popleft()[0])]
        self.world.elsewhere = True
        events = super().wait(timeout)
        self.world.elsewhere = False
        seconds = len(events[0].values) * STEP
        return [events[0]._replace(seconds=seconds, cpu_seconds=seconds), *events[1:]]


class Place(NamedTuple):
    """An item to which there are no weak references."""

    number: int
    name: str


class World:
    """What the test decides, and what was seen."""

    def __init__(self):
        self.clock = Clock()
        self.refuses = self.hands_back = False
        self.unsendable = False
        self.pays = True
        self.elsewhere = False
        self.opened = []  # how many items had been started whenever workers were asked for
        self.here, self.there = Counter(), Counter()
        self.stored = []
        self.known = None

    def work(self, item):
        (self.there if self.elsewhere else self.here)[item] += 1
        self.clock.now += STEP
        return item * 2

    @property
    def started(self):
        return self.here + self.there


@pytest.fixture
def world(monkeypatch):
    """Let items take time by a clock of the test's, and workers be pretended."""
    world = World()

    def open_backend(call, move, width, outgoing):
        world.opened.append(sum(world.started.values()))
        if world.unsendable:
            raise SerializationError("it cannot be sent")
        return Elsewhere(Job(call._one.here(), outgoing, width, "fork"), world)

    monkeypatch.setattr(serial_module, "perf_counter", world.clock)
    monkeypatch.setattr(serial_module, "busy_seconds", world.clock)  # items compute, and do not wait
    monkeypatch.setattr(Call, "_open", open_backend)
    monkeypatch.setattr(escalate, "should_escalate", lambda *_: world.pays)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(lookup, "find", lambda *_, **__: Found(world.known, "hit" if world.known else "new"))
    monkeypatch.setattr(lookup, "store", lambda _, *told, **__: world.stored.append(told[:2]))
    return world


def numbers(count):
    """Give an input without a length, so that nothing is begun beside its first item."""
    return (number for number in range(count))


DOUBLED = [number * 2 for number in range(100)]


class TestLeaving:
    """From the caller to workers."""

    def test_work_of_no_time_asks_nobody(self, world, monkeypatch):
        """Work below the price of a look looks at neither cache nor machine."""
        for module, name in ((lookup, "find"), (machine, "machine_profile"), (escalate, "should_escalate")):
            monkeypatch.setattr(module, name, lambda *_, name=name, **__: pytest.fail(f"{name} was called"))

        assert list(amorsize.map(abs, numbers(100))) == list(range(100))
        assert world.opened == world.stored == []

    def test_it_leaves_when_that_pays(self, world):
        """The rest goes to workers, every item is started once, and the plan says so."""
        stream = amorsize.map(world.work, numbers(100))

        assert list(stream) == DOUBLED
        assert world.opened == [1]
        assert (dict(world.here), sum(world.there.values())) == ({0: 1}, 99)
        assert set(world.started.values()) == {1}
        assert stream.plan.backend == "processes"

    def test_a_first_item_that_imports_does_not_decide(self, world, monkeypatch):
        """The next item tells what items take."""

        def imports(item):
            if item == 0:
                monkeypatch.setitem(sys.modules, "amorsize_test_imported", sys)
            return world.work(item)

        assert list(amorsize.map(imports, numbers(100))) == DOUBLED
        assert world.opened == [2]

    def test_sending_is_measured_while_the_items_are_there(self, world, monkeypatch):
        """Even in a call that stays, and though nobody else keeps the items: later calls may need to know."""
        seen = []
        found = Transfer(1.0, 1.0, 0.0)
        monkeypatch.setattr(sampling, "measure_transfer", lambda *told: seen.append(told) or found)
        world.pays = False
        items = (Place(number, str(number)) for number in range(5))

        assert len(list(amorsize.map(lambda place: world.work(place.number), items))) == 5
        ((measured, results, _),) = seen
        assert (type(measured[-1]), results[-1]) == (Place, 2 * measured[-1].number)

    def test_what_workers_cost_is_not_kept_with_the_callers_profile(self, world):
        """Another route would find it there."""
        world.pays = False
        world.known = WorkProfile(9, STEP, slowdown=2.0, call_seconds=0.5, load_seconds=1.5)
        list(amorsize.map(world.work, numbers(5)))

        ((_, kept),) = world.stored
        assert (kept.slowdown, kept.call_seconds, kept.load_seconds) == (None, None, None)

    def test_it_stays_when_that_does_not_pay(self, world):
        """Without a reason to leave, all items run in the caller."""
        world.pays = False

        assert list(amorsize.map(world.work, numbers(100))) == DOUBLED
        assert world.opened == []

    @pytest.mark.parametrize("options", [{"n_jobs": 1}, {"backend": "serial"}], ids=str)
    def test_it_stays_when_told_to(self, world, options):
        """One worker under "auto" is the caller, and so is "serial"."""
        assert list(amorsize.map(world.work, numbers(100), **options)) == DOUBLED
        assert world.opened == []

    def test_it_stays_in_a_daemon(self, world, monkeypatch):
        """A daemon process may not have children: "auto" never tries, and naming workers is refused at the call."""
        monkeypatch.setitem(multiprocessing.process.current_process()._config, "daemon", True)

        assert list(amorsize.map(world.work, numbers(100))) == DOUBLED
        assert world.opened == []
        with pytest.raises(amorsize.UnsupportedError, match="daemon"):
            amorsize.map(world.work, numbers(100), backend="processes")

    @pytest.mark.parametrize("container", [list, set, bytearray], ids=lambda container: container.__name__)
    def test_it_stays_for_what_works_in_place(self, world, container):
        """Methods that change a container of the caller's run where the container is."""
        target = container()
        method = target.add if container is set else target.append

        assert list(amorsize.map(method, numbers(100))) == [None] * 100
        assert len(target) == 100
        assert world.opened == []

    def test_failures_keep_their_index_on_the_way(self, world):
        """Indexes go on counting where the work changes place."""

        def fails(item):
            world.work(item)
            return 1 // (item % 3)

        stream = amorsize.map(fails, numbers(9), on_error="return")
        results = list(stream)

        assert [at for at, result in enumerate(results) if isinstance(result, ZeroDivisionError)] == [0, 3, 6]
        assert [failed.index for failed in stream.failures] == [0, 3, 6]


class TestComingBack:
    """From workers to the caller."""

    def test_a_function_that_cannot_be_sent_stays_for_good(self, world):
        """Under "auto" that is one warning, and no second try."""
        world.unsendable = True

        with pytest.warns(RuntimeWarning, match="stays in one process: it cannot be sent") as caught:
            assert list(amorsize.map(world.work, numbers(100))) == DOUBLED

        assert len(caught) == len(world.opened) == 1

    def test_a_named_backend_that_cannot_have_it_is_an_error(self, world):
        """Who asked for workers gets them or an error, and nothing runs in the caller."""
        world.unsendable = True

        with pytest.raises(SerializationError):
            list(amorsize.map(world.work, numbers(100), backend="processes"))
        assert not world.started

    def test_a_function_that_cannot_be_rebuilt_stays_for_good(self, world):
        """That is one warning, and no second try: in this call, and in the next."""
        world.refuses = True

        with pytest.warns(RuntimeWarning, match="stays in one process: unknown there") as caught:
            calls = [list(amorsize.map(world.work, numbers(100))) for _ in range(2)]

        assert calls == [DOUBLED] * 2
        assert len(caught) == len(world.opened) == 1

    def test_each_vain_try_puts_the_next_one_off(self, world, monkeypatch):
        """Workers that did not help are tried again ever later, and every item is started once."""
        world.hands_back = True
        monkeypatch.setattr(Pump, "_withdraw_if_slower", lambda pump: pump.withdraw("too slow"))

        assert list(amorsize.map(world.work, numbers(400))) == [number * 2 for number in range(400)]
        assert set(world.here.values()) == {1}
        waits = [later - sooner for sooner, later in itertools.pairwise(world.opened)]
        assert 2 <= len(waits) <= 4
        assert waits[0] >= 0.1 / STEP
        assert all(later > 3 * sooner for sooner, later in itertools.pairwise(waits))


class TestKnown:
    """A call that need not measure first."""

    @pytest.fixture(autouse=True)
    def remembered(self, monkeypatch):
        monkeypatch.setattr(fingerprint, "remembers", lambda _: True)

    def test_it_goes_straight_to_workers(self, world):
        """Where a profile says that workers pay, no item runs in the caller first."""
        world.known = WorkProfile(100, 0.1)

        assert list(amorsize.map(world.work, list(range(100)))) == DOUBLED
        assert not world.here

    def test_known_cheap_work_stays(self, world):
        """Where a profile says that they do not, the work begins here."""
        world.known = WorkProfile(100, 1e-7)
        world.pays = False

        assert list(amorsize.map(world.work, list(range(100)))) == DOUBLED
        assert not world.there

    @pytest.mark.parametrize("seconds", [1e-9, 1e9])
    @pytest.mark.parametrize("pays", [False, True])
    def test_a_wrong_profile_changes_no_result(self, world, seconds, pays):
        """Whatever the profile says, every item is started once and every result is right."""
        world.known, world.pays = WorkProfile(10**9, seconds), pays

        assert list(amorsize.map(world.work, list(range(100)))) == DOUBLED
        assert set(world.started.values()) == {1}


def test_a_call_that_is_over_before_workers_start_is_not_planned(world, monkeypatch):
    """Nobody asks the planner again and again whether it should move."""
    asked = []
    monkeypatch.setattr(escalate, "should_escalate", lambda *_: asked.append(1))
    monkeypatch.setattr(policy_module.Starting, "least_seconds", lambda _: 201 * STEP)
    list(amorsize.map(world.work, list(range(200))))
    assert not asked
    list(amorsize.map(world.work, list(range(202))))
    assert asked


class TestMissed:
    """Calls that are too short to repay a start, one after another."""

    @pytest.fixture(autouse=True)
    def no_workers_yet(self, monkeypatch, world):
        costs = Costs()
        for name in ("miss", "missed", "forget_missed"):
            monkeypatch.setattr(machine, name, getattr(costs, name))
        monkeypatch.setattr(fingerprint, "remembers", lambda _: True)
        monkeypatch.setattr(policy_module.Starting, "warm_workers", lambda _: 0)
        monkeypatch.setattr(machine, "start_method", lambda _: "fork")
        monkeypatch.setattr(serialize, "dump", lambda _: b"")
        self.loaded = {PROCESSES.module: None}
        monkeypatch.setattr(starting_module, "sys", SimpleNamespace(modules=self.loaded))
        world.known = WorkProfile(3, STEP, bytes_in=10.0, bytes_out=10.0)
        world.pays = False

    def started(self, world, n_calls):
        """Run some calls of 3 items; say of each whether it asked for workers, and of the last the plan."""
        asked = []
        for _ in range(n_calls):
            before = len(world.opened)
            stream = amorsize.map(world.work, [1, 2, 3])
            assert list(stream) == [2, 4, 6]
            asked.append(len(world.opened) > before)
        return asked, stream.plan

    def test_together_they_repay_it(self, world):
        """Each misses 10 ms, starting two workers takes 14, of which a call beside it pays a quarter."""
        asked, plan = self.started(world, 2)

        assert asked == [False, True]
        assert plan.reason.endswith("and calls like it have missed the price of a start")

    def test_what_the_caller_imports_counts_in_full(self, world):
        """Nothing goes on beside that: it takes 20 ms more."""
        self.loaded.clear()

        assert self.started(world, 3)[0] == [False, False, True]

    def test_calls_that_workers_would_not_help_miss_nothing(self, world):
        """Items that take longer to send than to run stay."""
        world.known = world.known._replace(transfer_seconds_per_item=2 * STEP)

        assert self.started(world, 10)[0] == [False] * 10

    def test_items_that_cannot_be_sent_miss_nothing(self, world, monkeypatch):
        """What cannot be pickled is not for workers, however long it takes."""
        world.known = world.known._replace(bytes_in=None)
        monkeypatch.setattr(sampling, "measure_transfer", lambda *_: Transfer(None, 10.0, 0.0))

        assert self.started(world, 10)[0] == [False] * 10

    def test_a_function_that_cannot_be_sent_stays_silently(self, world, monkeypatch):
        """Nobody asked for workers; that they cannot have it is found out once, and is no warning."""
        dumped = []

        def dump(function):
            dumped.append(function)
            raise TypeError("no such thing")

        monkeypatch.setattr(bound, "pieces_of", dump)

        def function(item):
            return world.work(item)

        calls = [list(amorsize.map(function, [1, 2, 3])) for _ in range(10)]

        assert calls == [[2, 4, 6]] * 10
        assert (world.opened, dumped) == ([], [function])

    def test_what_others_missed_does_not_send_what_cannot_be_sent(self, world):
        """Items that cannot be pickled stay, whatever other functions have missed."""
        machine.miss(60.0, monotonic())
        world.known = world.known._replace(bytes_out=None)

        assert self.started(world, 3)[0] == [False] * 3

    def test_nothing_is_missed_beside_running_workers(self, world, monkeypatch):
        """Where workers run already, the plan alone decides."""
        missed = []
        monkeypatch.setattr(machine, "miss", lambda seconds, _: missed.append(seconds))
        self.started(world, 1)
        monkeypatch.setattr(policy_module.Starting, "warm_workers", lambda _: 2)
        self.started(world, 1)

        assert len(missed) == 1


class TestRemembering:
    """What is kept for the next call."""

    def test_what_ran_in_either_place_counts(self, world):
        """What ran here and what ran there are kept apart; a few items before the others left say nothing."""
        list(amorsize.map(world.work, numbers(100)))
        world.pays = False
        list(amorsize.map(world.work, numbers(50)))

        assert [(n, profile.items, profile.route) for n, profile in world.stored] == [
            (100, 99, "toy"),
            (50, 50, "caller"),
        ]
        assert all(profile.seconds_per_item == pytest.approx(STEP) for _, profile in world.stored)

    @pytest.mark.parametrize("backend", ["auto", "processes"])
    def test_nothing_is_kept_without_the_cache(self, world, backend):
        """`use_cache=False` writes nothing."""
        list(amorsize.map(world.work, numbers(100), use_cache=False, backend=backend))

        assert world.stored == []

    def test_nothing_is_kept_of_half_a_call(self, world):
        """A call that failed or was left says nothing about its whole input."""
        world.pays = False
        with pytest.raises(ZeroDivisionError):
            list(amorsize.map(lambda item: world.work(item) // (item - 50), numbers(100)))
        with amorsize.map(world.work, numbers(100)) as stream:
            next(stream)

        assert world.stored == []


class TestInitializer:
    """The initializer where there are no workers."""

    @pytest.mark.parametrize("backend", ["auto", "serial"])
    def test_it_runs_once_before_the_first_item(self, world, backend):
        """The caller is a worker too: it is initialized before its first item, and only then."""
        said = []
        world.pays = False
        stream = amorsize.map(said.append, numbers(2), backend=backend, initializer=said.append, initargs=("begin",))
        assert said == []

        list(stream)

        assert said == ["begin", 0, 1]

    @pytest.mark.parametrize("backend", ["auto", "serial"])
    def test_its_error_comes_before_any_item(self, world, backend):
        """A failed initializer is an error at the first result, and no item runs."""
        stream = amorsize.map(world.work, numbers(9), backend=backend, initializer=int, initargs=("x",))

        with pytest.raises(ValueError, match="invalid literal"):
            next(stream)
        assert list(stream) == []
        assert not world.started


class TestLeftEarly:
    """Nobody asked for the end: what was measured is kept all the same."""

    @pytest.mark.parametrize(
        "read",
        [
            lambda stream: list(zip(range(100), stream, strict=False)),
            lambda stream: list(itertools.islice(stream, 100)),
            lambda stream: [next(stream) for _ in range(100)],
            lambda stream: [stream.__next__() for _ in range(100)] + [stream.close()],
        ],
        ids=["zip", "islice", "next", "close"],
    )
    @pytest.mark.parametrize("pays", [False, True], ids=["here", "workers"])
    def test_a_known_count(self, world, read, pays):
        """Whoever stops at the last result has run all items."""
        world.pays = pays
        read(amorsize.map(world.work, list(range(100))))

        ((n_items, profile),) = world.stored
        assert n_items == 100
        assert profile.items == (99 if pays else 100)  # one was timed here before the others left
        assert profile.seconds_per_item == pytest.approx(STEP)

    def test_the_next_call_is_looked_for_by_its_length(self, world):
        """Of an input that was read in part, what is kept is found by the length that it has."""
        world.pays = False
        list(itertools.islice(amorsize.map(world.work, list(range(100))), 10))

        assert [n_items for n_items, _ in world.stored] == [100]

    def test_a_destructor_does_not_write(self, world, monkeypatch):
        """The disk is left alone there; memory is not."""
        told = []
        monkeypatch.setattr(lookup, "store", lambda *_, on_disk: told.append(on_disk))
        world.pays = False
        for close in (True, False):
            stream = amorsize.map(world.work, list(range(10)))
            for _ in range(10):
                next(stream)
            if close:
                stream.close()
            del stream

        assert told == [True, False]


class TestLost:
    """Calls on workers that took longer than the caller would have."""

    @pytest.fixture(autouse=True)
    def _slow(self, world, monkeypatch):
        self.seconds = 100.0
        visit = move_module.Visit
        monkeypatch.setattr(move_module, "Visit", lambda *told: visit(*told)._replace(seconds=self.seconds))

    def moved(self, world, count):
        """Run a call, and say whether it asked for workers."""
        before = len(world.opened)
        assert list(amorsize.map(world.work, numbers(count))) == [number * 2 for number in range(count)]
        return len(world.opened) > before

    def test_it_is_not_repeated_the_same_way(self, world):
        """The next calls of that length stay, and a much longer one goes again."""
        assert [self.moved(world, 20) for _ in range(4)] == [True, False, False, False]
        assert self.moved(world, 100)

    def test_the_way_back_is_found(self, world):
        """After some calls that stay it is tried again, and one that gains restores trust."""
        self.seconds = 0.25  # where the caller takes 0.2
        tried = [self.moved(world, 20) for _ in range(12)]
        self.seconds = 0.01
        assert tried[0]
        assert 1 <= sum(tried[1:]) <= 2
        for _ in range(100):
            if self.moved(world, 20):
                break
        assert self.moved(world, 20)
        assert self.moved(world, 20)


def test_a_function_of_which_nothing_is_known_gets_a_headstart_though_the_cache_was_asked():
    """Its workers may have been measured on another route: a call after one whose first item was long."""
    call = amorsize.map(abs, [1, 2, 3])._call
    call._policy.looked_up = True
    assert call._headstart_wanted() is not None
    call._policy.known = WorkProfile(9, STEP)

    assert call._headstart_wanted() is None


class TestForetold:
    """What a plan tells of the rest of a call, and what decided for it."""

    @pytest.fixture
    def policy(self):
        """Give the policy of a call of 100 items whose function was on workers before, which take long to start."""
        policy = amorsize.map(abs, range(100), start_method="spawn")._call._policy
        policy.known = WorkProfile(
            100, STEP, seconds_max=STEP, bytes_in=1.0, bytes_out=1.0, slowdown=1.0, call_seconds=0.0, load_seconds=0.4
        )
        policy.carrying_seconds = 0.0
        return policy

    def ran(self, items, seconds_per_item):
        times = ItemTimes()
        times.add_block(items, items * seconds_per_item)
        seconds = items * seconds_per_item
        return SimpleNamespace(times=times, seconds=seconds, cpu_seconds=seconds, seconds_per_item=seconds_per_item)

    def test_the_call_goes_on_while_workers_start(self, policy, monkeypatch):
        """That takes longer than what decided, by which what may be looked at for it is bounded."""
        monkeypatch.setattr(machine, "cores", lambda: 2)
        move = policy.before_first()

        assert 0.7 <= move.plan.predicted_seconds <= 0.85
        assert 0.2 <= move.gain_seconds <= 0.4
        assert "goes on while they start" in move.plan.reason

    def test_workers_that_run_are_not_waited_for(self, policy, monkeypatch):
        """Nor does the plan speak of a start."""
        monkeypatch.setattr(machine, "cores", lambda: 2)
        monkeypatch.setattr(policy.starting, "warm_and_starting", lambda _: (2, 0.0))
        move = policy.before_first()

        assert 0.5 <= move.plan.predicted_seconds <= 0.6
        assert "start" not in move.plan.reason

    def test_workers_that_are_still_starting_cost_what_is_left_of_that(self, policy, monkeypatch):
        """An earlier call has ordered them."""
        monkeypatch.setattr(machine, "cores", lambda: 2)
        monkeypatch.setattr(policy.starting, "warm_and_starting", lambda _: (2, 0.3))
        move = policy.before_first()

        assert 0.6 <= move.plan.predicted_seconds <= 0.75

    def test_items_of_another_length_take_as_many_times_as_long_on_workers(self, policy):
        """Also where that was not measured, but only how long they took."""
        policy.known = WorkProfile(300, 16e-6, worker_seconds_per_item=20e-6)

        assert policy._expected(self.ran(3, 0.004)).worker_seconds_per_item == pytest.approx(0.005)

    def test_the_first_of_unlike_items_say_little_of_the_rest(self, policy):
        """A sorted input, for example; longer ones than ever before are something new."""
        policy.known = WorkProfile(110, 0.002, seconds_max=0.02)

        assert policy._expected(self.ran(10, 0.015)).seconds_per_item == pytest.approx((0.22 - 0.15) / 100)
        assert policy._expected(self.ran(10, 0.05)).seconds_per_item == pytest.approx(0.05)
