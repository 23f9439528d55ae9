"""What `audit=` names: functions whose answers depend on more than their item; and what it leaves alone."""

from __future__ import annotations

import contextlib
import decimal
import math
import os
import random
import signal
import threading
import warnings
from collections import defaultdict
from functools import partial
from itertools import islice

import audit_workers as workers
import pytest

import amorsize
from amorsize.call import again as again_module
from amorsize.call import audited as audited_module
from amorsize.call.audited import CHANGED, OTHER_ANSWER
from amorsize.transport.same import Incomparable, difference

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
arrays = pytest.importorskip("audit_arrays")

PURE = {**workers.PURE, **arrays.PURE}
CHANGING = [*workers.CHANGING, (arrays.scaling, lambda n: np.arange(1.0, n + 3))]
PLACES = {"auto": {}, "serial": {"backend": "serial"}, "processes": {"backend": "processes", "n_jobs": 2}}


@pytest.fixture(params=PLACES.values(), ids=PLACES)
def place(request):
    """Give the options of three places for the first run."""
    return dict(request.param)


@pytest.fixture(autouse=True)
def _put_back(monkeypatch, tmp_path):
    """Let functions that change the process do it."""
    deep = tmp_path / "/".join("abcdefghijkl")
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    monkeypatch.setenv("AMORSIZE_TEST_AUDIT", "")
    monkeypatch.delenv("AMORSIZE_TEST_AUDIT")
    workers.reset()
    with decimal.localcontext():
        yield


def audited(function, items, **options):
    """Return the results of a call, its findings, and its warnings."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        stream = amorsize.map(function, items, **options)
        results = list(stream)
    ours = [str(warning.message) for warning in warned if "audit" in str(warning.message)]
    return results, stream._call.audit, ours


@pytest.mark.matrix
class TestImpure:
    """Functions whose answers depend on where they run or on what ran before are named, once."""

    @pytest.mark.parametrize("function", workers.IMPURE, ids=lambda function: function.__name__)
    def test_all_items(self, function, place):
        """With every item run twice, all kinds are found, wherever the first run was."""
        if function is workers.parent_process_id and place.get("backend") == "processes":
            pytest.skip("all workers have the same")
        _, found, warned = audited(function, range(8), audit=1.0, on_error="return", **place)

        assert found
        assert {impure.kind for impure in found} == {OTHER_ANSWER}
        assert len(warned) == 1
        assert function.__name__ in warned[0]
        assert f"at item {found[0].index}, {found[0].item_repr}" in warned[0]
        assert found[0].first in warned[0]
        assert found[0].again in warned[0]

    @pytest.mark.parametrize("function", workers.IMPURE, ids=lambda function: function.__name__)
    def test_few_items(self, function):
        """A hundredth of the items is enough in a longer call."""
        options = {"on_error": "return"}
        if function is workers.folder:
            options["backend"] = "serial"
        _, found, warned = audited(function, range(300), audit=0.01, **options)

        assert found
        assert len(warned) == 1

    def test_hashes(self, one_method, monkeypatch):
        """The order of a set of texts is another one in a fresh interpreter, unless its hashes are fixed."""
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
        _, found, _ = audited(workers.set_order, range(8), audit=1.0, start_method=one_method["start_method"])

        assert found

    @pytest.mark.parametrize("function", [arrays.chance, arrays.chance_of_its_own])
    def test_numpy(self, function):
        """It keeps random states of its own."""
        _, found, warned = audited(function, range(8), audit=1.0)

        assert found
        assert len(warned) == 1

    @pytest.mark.parametrize(("function", "make"), CHANGING, ids=lambda value: value.__name__)
    def test_changed_arguments(self, function, make, place):
        """What a worker changes nobody sees, even where the answers are equal."""
        items = [make(number) for number in range(4)]
        _, found, warned = audited(function, items, audit=1.0, **place)

        assert {impure.index for impure in found if impure.kind == CHANGED} == {0, 1, 2, 3}
        assert len(warned) == 1
        assert "changed its argument at item" in warned[0]

    def test_the_second_run_has_the_item_as_it_was(self):
        """So a function that only changes its argument gives the same answer."""
        _, found, _ = audited(workers.sorting, [[3, 1], [2, 1]], audit=1.0, backend="serial")

        assert [(impure.kind, impure.where, impure.item_repr) for impure in found] == [
            (CHANGED, "[0]", "[3, 1]"),
            (CHANGED, "[0]", "[2, 1]"),
        ]

    def test_it_is_told_soon(self):
        """An endless call warns before many items have run."""
        stream = amorsize.map(workers.counting, iter(int, 1), audit=1.0, backend="serial")
        with pytest.warns(RuntimeWarning, match="counting"):
            list(islice(stream, 20))
        stream.close()

    def test_few_findings_are_kept(self):
        """However many items there are."""
        _, found, warned = audited(workers.process_id, range(300), audit=1.0)

        assert len(found) == 100
        assert len(warned) == 1


@pytest.mark.matrix
class TestPure:
    """What depends on its item alone is left alone."""

    @pytest.mark.parametrize("family", PURE)
    def test_quiet(self, family):
        """Functions of all kinds, and results of all kinds."""
        functions, items = PURE[family]
        told = {}
        for function in functions:
            _, found, warned = audited(function, items, audit=1.0, on_error="return")
            if found or warned:
                told[repr(function)] = found, warned

        assert told == {}

    def test_enough(self):
        """The families are of some size together."""
        assert sum(len(functions) for functions, _ in PURE.values()) > 200

    def test_on_workers(self, processes):
        """Under every start method."""
        for function in (workers.with_nan, arrays.frame, workers.twin, workers.sum_in_another_order, workers.Point):
            assert audited(function, range(3), audit=1.0, **processes)[1:] == ((), [])

    def test_on_threads_and_a_pool(self, anywhere):
        """On every backend, and all results are there."""
        results, found, warned = audited(math.sqrt, range(100), audit=0.5, **anywhere)

        assert results == [math.sqrt(number) for number in range(100)]
        assert (found, warned) == ((), [])

    def test_seeded(self, seedable):
        """With a seed an item draws the same again, whatever it draws from."""
        results, found, warned = audited(arrays.drawn, range(20), audit=1.0, seed=3, **seedable)

        assert len(results) == 20
        assert (found, warned) == ((), [])

    @pytest.mark.parametrize("function", [workers.failing, workers.exiting])
    def test_exceptions(self, function, place):
        """An exception is an answer, told by its type and arguments."""
        results, found, warned = audited(function, range(3), audit=1.0, on_error="return", **place)

        assert len(results) == 3
        assert (found, warned) == ((), [])

    def test_retries(self, place, tmp_path):
        """The last try counts, both times."""
        flaky = partial(workers.failing_first, str(tmp_path))
        place["n_jobs"] = 1
        results, found, warned = audited(flaky, range(4), audit=1.0, retries=1, **place)

        assert results == list(range(4))
        assert (found, warned) == ((), [])

    def test_the_user_may_change_results(self):
        """They are compared as they were when they came."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for result in amorsize.map(workers.twin, range(10), audit=1.0, backend="serial"):
                result["a"].append("mine")

    def test_lambdas_and_closures(self, place):
        """They go by value."""
        by = 3

        assert audited(lambda number: [number * by], range(5), audit=1.0, **place)[1:] == ((), [])


class Unpicklable:
    """An item that can be copied, but not pickled."""

    def __reduce_ex__(self, protocol):
        raise TypeError("no pickle")

    def __deepcopy__(self, memo):
        return Unpicklable()


class TestWhere:
    """The second run disturbs no first one, and ends."""

    @pytest.fixture
    def impatient(self, monkeypatch):
        """Wait for no second run for more than a moment."""
        monkeypatch.setattr(audited_module, "_LEAST_SECONDS", 2.0)

    def test_items_without_a_pickle(self):
        """They run once."""
        results, found, warned = audited(workers.Machine().turn, [Unpicklable() for _ in range(12)], audit=1.0)

        assert results == list(range(1, 13))
        assert found == ()
        assert "could not compare 12 of the chosen items" in warned[0]

    @pytest.mark.parametrize("number", [12, 300])
    def test_a_function_that_cannot_be_sent(self, number):
        """It runs again in the caller when the last result was handed out."""
        lock = threading.Lock()
        seen, ran = [], []

        def locked(number):
            with lock:
                ran.append(number)
            return len(ran)

        with pytest.warns(RuntimeWarning, match="locked"):
            seen.extend((result, len(ran)) for result in amorsize.map(locked, range(number), audit=1.0))

        assert [result for result, _ in seen] == list(range(1, number + 1))
        assert seen[-1] == (number, number)
        assert len(ran) == 2 * number

    def test_a_worker_that_cannot_load_the_function(self):
        """The items wait for the end as well."""
        turn = workers.LoadedOnce(os.getpid())
        results, found, _ = audited(turn, range(200), audit=1.0)

        assert results == list(range(1, 201))
        assert found

    def test_not_too_many_wait(self, monkeypatch):
        """More are not compared."""
        monkeypatch.setattr(again_module, "_MOST_KEPT", 8)
        lock = threading.Lock()
        _, _, warned = audited(lambda number: lock.locked(), range(100), audit=1.0)

        assert len(warned) == 1
        assert "too many items wait" in warned[0]

    @pytest.mark.parametrize("backend", ["threads", "auto"])
    def test_items_that_need_each_other(self, backend):
        """None runs alone in the caller."""
        barrier = threading.Barrier(2)

        def meeting(number):
            if backend == "threads":
                barrier.wait(10)
            return barrier.parties

        results, found, warned = audited(meeting, range(6), audit=1.0, backend=backend, n_jobs=2)
        assert results == [2] * 6
        assert found == ()
        assert ["may need each other" in told for told in warned] == ([True] if backend == "threads" else [])

    def test_a_function_that_blocks_elsewhere(self, impatient):
        """It is not waited for without limit."""
        function = partial(workers.endless_elsewhere, os.getpid())
        results, found, warned = audited(function, range(5), audit=1.0, backend="serial")

        assert len(results) == 5
        assert found == ()
        assert "could not compare 5 of the chosen items" in warned[0]
        assert "far longer than the first" in warned[0]

    def test_a_seed_needs_no_warning(self):
        """The second run draws the same, and says nothing of a missing seed."""
        random.seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            stream = amorsize.map(workers.drawing, range(6), seed=3, audit=1.0)
            assert len(list(stream)) == 6
            assert stream._call._request.recorder.compared == 6

    def test_the_audit_alone_tells_of_a_missing_seed(self):
        """No other warning speaks of a function that is not the user's."""
        random.seed(1)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            list(amorsize.map(workers.drawing, range(6), audit=1.0, backend="serial"))

        assert [str(warning.message).startswith("audit: <function drawing") for warning in warned] == [True]

    @pytest.mark.parametrize("function", [workers.process_id, workers.sorting])
    def test_warnings_that_are_errors_take_no_result_away(self, function, place):
        """They come when all results were handed out."""
        results, items = [], [[number, 0] for number in range(1, 7)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning, match=function.__name__):
                results.extend(amorsize.map(function, items, audit=1.0, **place))

        assert len(results) == 6


class TestUntold:
    """What cannot be compared is told once, and is not held against the function."""

    @pytest.mark.parametrize(
        ("function", "items"),
        [
            (lambda number: (n for n in range(number)), [1, 2, 3]),
            (lambda number: threading.Lock(), [1, 2, 3]),
            (next, [iter([1]), iter([2])]),
            ([].append, [1, 2]),
            (str, [threading.Lock(), (n for n in "ab")]),
        ],
        ids=["generators", "locks", "iterators", "in place", "items"],
    )
    def test_once(self, function, items):
        """With the reason."""
        _, found, warned = audited(function, items, audit=1.0)

        assert found == ()
        assert len(warned) == 1
        assert f"audit= could not compare {len(items)} of the chosen items" in warned[0]

    def test_a_function_that_cannot_be_sent(self):
        """It runs again in the caller, after all others have run."""
        lock = threading.Lock()
        calls = []

        def locked(number):
            calls.append(number)
            with lock:
                return len(calls)

        results, found, _ = audited(locked, [1, 2, 3], audit=1.0)
        assert results == [1, 2, 3]
        assert found
        assert calls == [1, 2, 3, 3, 2, 1]

    def test_a_method_of_a_container_runs_once(self):
        """It is there for what it changes."""
        kept = []
        audited(kept.append, range(1000), audit=1.0)

        assert kept == list(range(1000))

    def test_a_worker_that_dies(self):
        """Its death is the second answer of the item that ran, and of no other."""
        _, found, warned = audited(partial(workers.dying_elsewhere, os.getpid()), range(6), audit=1.0)

        assert [impure.index for impure in found] == [3]
        assert "WorkerCrashError" in found[0].again
        assert len(warned) == 1


class TestCall:
    """Beside the audit, a call is what it would be without it."""

    def test_results_are_those_of_the_first_run(self, place):
        """Also of an impure function: what runs again does not disturb what is to come."""
        if place.get("backend") == "processes":
            place["n_jobs"] = 1
        results, _, _ = audited(workers.Machine().turn, range(200), audit=1.0, **place)

        assert results == list(range(1, 201))

    def test_every_item_runs_once_here(self):
        """The second run is somewhere else."""
        ran = []

        def note(number):
            ran.append(number)
            return number

        audited(note, range(50), audit=1.0, backend="serial")
        assert ran == list(range(50))

    def test_lazy(self):
        """Each result pulls one item."""
        pulled = []
        stream = amorsize.map(abs, (pulled.append(n) or n for n in range(10)), audit=1.0, backend="serial")
        assert pulled == []
        for number in range(10):
            next(stream)
            assert len(pulled) == number + 1
        stream.close()

    def test_the_very_objects(self):
        """In the caller and on threads, the function gets the user's own items, and the user its own results."""
        items = [workers.Plain(n) for n in range(5)]
        for options in ({"backend": "serial"}, {"backend": "threads", "n_jobs": 2}):
            results, _, _ = audited(workers.same, items, audit=1.0, **options)
            assert all(one is other for one, other in zip(results, items, strict=True))

    def test_a_list_that_grows(self, anywhere):
        """It is read to its end."""
        items = [3]
        results = []
        for result in amorsize.map(abs, items, audit=1.0, **anywhere):
            results.append(result)
            if result:
                items.append(result - 1)

        assert results == [3, 2, 1, 0]

    def test_several_inputs_and_starmap(self, place):
        """The arguments of an item go together."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert list(amorsize.map(pow, [2, 3], [3, 2], audit=1.0, **place)) == [8, 9]
            assert list(amorsize.starmap(pow, [(2, 3), (3, 3)], audit=1.0, **place)) == [8, 27]
            with pytest.raises(ValueError, match=r"shorter|longer"):
                list(amorsize.map(pow, [2, 3], [3], strict=True, audit=1.0, backend="serial"))

    def test_unordered(self, anywhere):
        """All results, each once."""
        results, found, _ = audited(abs, range(-50, 0), audit=0.3, ordered=False, **anywhere)

        assert sorted(results) == list(range(1, 51))
        assert found == ()

    def test_an_error_ends_the_call(self, place):
        """It comes out as it is, and what ran before it is compared."""
        with pytest.warns(RuntimeWarning, match="process_id_below"), pytest.raises(ValueError, match=r"^3") as caught:
            list(amorsize.map(workers.process_id_below, range(9), audit=1.0, **place))
        assert caught.value.amorsize_index == 3

    def test_an_error_comes_before_a_warning(self):
        """Even where warnings are errors."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match=r"^1"):
                list(amorsize.map(workers.raising_at_one, range(3), audit=1.0, backend="serial"))

    def test_whoever_stops_at_the_last_result_is_told(self):
        """As `zip` does, which never asks for the end."""
        items = range(5)
        with pytest.warns(RuntimeWarning, match="process_id"):
            pairs = list(zip(items, amorsize.map(workers.process_id, items, audit=0.01), strict=False))
        assert len(pairs) == 5

    def test_an_early_end_runs_nothing_again(self):
        """Nobody wants more work."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            stream = amorsize.map(workers.process_id, range(5), audit=1.0, backend="serial")
            next(stream)
            stream.close()
            assert stream._call.audit == ()

    def test_an_interrupt_of_the_second_run_comes_out(self):
        """It is the user's."""
        with pytest.raises(KeyboardInterrupt):
            list(amorsize.map(partial(workers.interrupted_elsewhere, os.getpid()), range(3), audit=1.0))

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a platform without timers")
    def test_what_a_handler_raises_comes_out(self):
        """Also while the second run is waited for."""

        def late(number, frame):
            raise TimeoutError("late")

        before = signal.signal(signal.SIGALRM, late)
        try:
            stream = amorsize.map(partial(workers.endless_elsewhere, os.getpid()), range(3), audit=1.0)
            signal.setitimer(signal.ITIMER_REAL, 1.0)
            with pytest.raises(TimeoutError, match="late"):
                list(stream)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def test_timeout(self, tmp_path):
        """An item that takes too long the second time cannot be compared."""
        function = partial(workers.endless_second, str(tmp_path))
        results, found, warned = audited(function, range(1), audit=1.0, timeout=1)

        assert results == [0]
        assert found == ()
        assert "an item ran for longer than timeout= the second time" in warned[0]

    def test_an_initializer_runs_there(self, place):
        """What it sets is there for the second run."""
        results, found, _ = audited(
            workers.initialized, range(3), audit=1.0, initializer=workers.initialize, initargs=(7,), **place
        )
        assert results == [7, 8, 9]
        assert found == ()

    def test_off_is_off(self):
        """A share of 0 changes nothing of a call."""
        stream = amorsize.map(abs, [1], audit=0)
        assert stream._call._request.recorder is None
        assert stream._call.audit == ()
        assert list(stream) == [1]


class TestRefusals:
    """What does not go together is refused at the call."""

    def test_coroutines(self):
        """They are refused, and say why."""

        async def wait(number):
            return number

        with pytest.raises(amorsize.UnsupportedError, match="audit="):
            amorsize.map(wait, [1], audit=0.5)

    def test_journal(self, tmp_path):
        """Its items do not run twice."""
        with pytest.raises(amorsize.UnsupportedError, match=r"journal="):
            amorsize.map(abs, [1], audit=0.5, journal=tmp_path / "journal")

    @pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
    def test_no_share(self, value):
        """A share is from 0 to 1."""
        with pytest.raises(ValueError, match="share"):
            amorsize.map(abs, [1], audit=value)


def named(table, **attributes):
    """Return a table with some attributes set."""
    for name, value in attributes.items():
        setattr(table, name, value)
    return table


class TestDifference:
    """What is the same answer."""

    @pytest.mark.parametrize(
        ("first", "again", "where"),
        [
            (1, True, ""),
            (1, 1.0, ""),
            ([1, [2, 3]], [1, [2, 4]], "[1][1]"),
            ({"a": {"b": 1}}, {"a": {"b": 2}}, "['a']['b']"),
            ({1}, {2}, ""),
            (0.1, 0.1 + 1e-9, ""),
            (workers.Plain([1]), workers.Plain([2]), ".value[0]"),
            (workers.Point(1), workers.Point(2), ".x"),
            (ValueError(1), ValueError(2), ""),
            (arrays.ARRAYS[0], arrays.ARRAYS[0][:2], ""),
            (arrays.ARRAYS[1], arrays.ARRAYS[1].astype("f4"), ""),
            (arrays.frame(1), arrays.frame(2), ""),
            (arrays.structured(1), arrays.structured(2), "[0]"),
            ([1], (1,), ""),
            ({"a": 1}, {"b": 1}, ""),
            (lambda: 1, lambda: 2, ""),
            ("a", "b", ""),
            (workers.Typed(1), workers.Typed(True), ".number"),
            (workers.Measured(1), workers.Measured(2), ".number"),
            (workers.Tagged([1], "a"), workers.Tagged([1], "b"), ".tag"),
            (defaultdict(int, a=1), defaultdict(list, a=1), ".default_factory"),
            (set(range(100)), set(range(100, 200)), ""),
            ({decimal.Decimal(n) for n in range(100)}, {decimal.Decimal(n) for n in range(100, 200)}, ""),
            ({n / 7 for n in range(100)}, {n / 9 for n in range(1, 101)}, ""),
            (pd.Series([1], name="a"), pd.Series([1], name="b"), ""),
            (pd.Series([1, 2]), pd.Series([1, 3]), ""),
            (pd.Series([workers.Plain(1)]), pd.Series([workers.Plain(2)]), ""),
            (pd.Index([1], name="a"), pd.Index([1], name="b"), ""),
            (named(arrays.frame(1), attrs={"a": 1}), named(arrays.frame(1), attrs={"a": 2}), ""),
            (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), ""),
        ],
    )
    def test_different(self, first, again, where):
        """Types and values count, and the way to the part that differs is told."""
        found = difference(first, again)

        assert found is not None
        assert found.where == where

    @pytest.mark.parametrize(
        "make",
        [
            lambda: float("nan"), lambda: [float("nan")], lambda: {math.nan: 1}, lambda: {math.nan, 1},
            lambda: complex(math.nan, 1), lambda: decimal.Decimal("NaN"), lambda: workers.Plain([math.nan]),
            lambda: workers.Point(math.nan), lambda: workers.recursive(1), lambda: arrays.frame(1),
            lambda: arrays.structured(1), arrays.ARRAYS[0].copy, lambda: ValueError([1]),
            lambda: partial(workers.same, [1]), lambda: workers.adding(2), object,
            lambda: workers.Slotted(math.nan), lambda: {workers.Plain(1)}, lambda: arrays.ARRAYS[0].view("M8[s]"),
            lambda: workers.Tagged([math.nan], "a"), lambda: defaultdict(list, a=math.nan),
            lambda: pd.DataFrame({"a": [workers.Plain(math.nan)], "name": 1}),
            lambda: {(workers.Plain(1), n) for n in range(20)},
        ],
    )  # fmt: skip
    def test_same(self, make):
        """NaN is the same as NaN, and objects count by their state."""
        assert difference(make(), make()) is None

    @pytest.mark.parametrize(
        ("first", "again"),
        [
            (workers.Measured(1, 0.1), workers.Measured(1, 0.2)),
            (workers.Same(1), workers.Same(2)),
            (pd.DataFrame({"a": [0.1], "b": "x"}), pd.DataFrame({"a": [0.1 + 1e-16], "b": "x"})),
            (pd.Series([1 / 3], name="a"), pd.Series([1 / 3 + 1e-16], name="a")),
            ({n / 7 for n in range(100)}, {n / 7 * (1 + 3e-16) for n in range(100)}),
        ],
    )
    def test_said_to_be_the_same(self, first, again):
        """A class says what counts, and rounding does not."""
        assert difference(first, again) is None

    def test_what_an_object_keeps_of_itself(self):
        """It is no change of the argument."""
        for kind in (workers.Item, workers.Measured):
            assert audited(workers.squaring, [kind(n) for n in range(4)], audit=1.0, backend="serial")[1:] == ((), [])

    def test_sets_that_share_members(self):
        """They are compared in a bounded number of steps, or not at all."""
        assert difference(workers.layers(4), workers.layers(4)) is None
        with contextlib.suppress(Incomparable):
            assert difference(workers.layers(25), workers.layers(25)) is None

    def test_large_sets_of_objects(self):
        """Which of them are pairs is not found out."""
        with pytest.raises(Incomparable, match="set of more than"):
            difference({workers.Plain(n) for n in range(100)}, {workers.Plain(n) for n in range(100)})

    def test_neither(self):
        """What shows no state can be neither."""
        with pytest.raises(Incomparable):
            difference(threading.Lock(), threading.Lock())
