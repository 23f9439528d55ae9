"""One call's life on workers, with a backend that says what the test wants it to say."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from fake_backend import FakeBackend as Backend

from amorsize.backends.base import Unsendable
from amorsize.backends.events import Chunk, Refused, Results
from amorsize.errors import AmorsizeError, InitializerError, SerializationError, WorkerCrashError
from amorsize.feed import pump as pump_module
from amorsize.feed import source as source_module
from amorsize.feed.feed import WINDOW_BYTES, WINDOW_ITEMS
from amorsize.feed.pace import Pace
from amorsize.feed.pump import Pump
from amorsize.feed.source import Source
from amorsize.measure import machine
from amorsize.options import Options
from amorsize.plan.schedule import SLICE_SECONDS
from amorsize.transport.serialize import load


class Clock:
    """A clock that moves when somebody sleeps, or when the test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pump_module, "perf_counter", clock)
    monkeypatch.setattr(pump_module, "thread_time", clock)
    monkeypatch.setattr(source_module, "perf_counter", clock)
    monkeypatch.setattr(pump_module, "sleep", clock.sleep)
    # What one run learns would change the chunks of the next.
    monkeypatch.setattr(machine, "learn_chunk", lambda *_: None)
    return clock


@pytest.fixture
def begin(clock):
    """Make a run; `items` may be anything iterable, and further arguments are options."""

    def begin(backend, items, *, function=None, pace=None, start_seconds=0.0, n_jobs=2, **options):
        source = Source((items,))
        backend.width = n_jobs
        return Pump(
            backend, source, Options(**options), pace or Pace(), [], function, start_seconds=start_seconds
        )

    return begin


def drain(run):
    """Return the results before an error, and the error; None if there was none."""
    results = []
    try:
        for piece in run:
            results.extend(piece)
    except Exception as error:  # noqa: BLE001 - whatever comes is compared
        return results, error
    return results, None


def echo(item):
    return item


class TestOrder:
    """Results stand in their items' places."""

    def test_in_order_whoever_is_first(self, begin):
        """Chunks that end in any order give results in the input's order."""
        backend = Backend(*[lambda backend: backend.done(at=-1)] * 5)

        assert drain(begin(backend, range(20), chunksize=3)) == (list(range(20)), None)

    def test_unordered_as_they_are_done(self, begin):
        """With `ordered=False`, what ends first comes first."""
        backend = Backend(lambda backend: backend.done(at=-1))

        results, _ = drain(begin(backend, range(6), chunksize=2, ordered=False))

        assert results == [4, 5, 0, 1, 2, 3]

    def test_no_items_are_no_chunks(self, begin):
        """An empty input submits nothing and gives the backend back."""
        backend = Backend()

        assert drain(begin(backend, [])) == ([], None)
        assert (backend.submitted, backend.said) == ([], ["close"])

    def test_a_chunk_may_come_in_parts(self, begin):
        """Results that leave a worker before its chunk ends are handed out at once."""

        def part(backend):
            chunk = backend.chunks[0]
            backend.chunks[0] = Chunk(chunk.first + 2, chunk.items[2:])
            return Results(chunk.first, list(chunk.items[:2]), {})

        run = iter(begin(Backend(part), range(5), chunksize=5))

        assert next(run) == [0, 1]
        assert next(run) == [2, 3, 4]
        assert next(run, "over") == "over"

    def test_a_fixed_length_is_exact(self, begin):
        """A number given for `chunksize` is every chunk's length but the last's, and such chunks are not sliced."""
        backend = Backend()
        drain(begin(backend, range(8), chunksize=3))

        assert backend.submitted == [(0, 3, 0.0), (3, 3, 0.0), (6, 2, 0.0)]

    def test_other_chunks_are_sliced(self, begin):
        """Where the length is ours to choose, a worker may hand back what it has not started."""
        backend = Backend()
        drain(begin(backend, range(50), pace=Pace(0.001)))

        assert {slice_seconds for _, _, slice_seconds in backend.submitted} == {SLICE_SECONDS}

    def test_while_nothing_is_known_one_item_a_chunk(self, begin):
        """Without any measurement the first chunks hold one item."""
        backend = Backend()
        run = iter(begin(backend, range(50)))
        next(run)

        assert backend.lengths[:4] == [(0, 1), (1, 1), (2, 1), (3, 1)]
        run.close()


class TestHandedBack:
    """Items that a worker did not start."""

    def test_they_go_before_new_input(self, begin):
        """What comes back is submitted again before anything new, and its results are in place."""
        backend = Backend(lambda backend: backend.done(keep=1), room=2)
        run = begin(backend, range(12), chunksize=3)

        assert drain(run) == (list(range(12)), None)
        assert backend.lengths[:4] == [(0, 3), (3, 3), (1, 2), (6, 3)]

    def test_more_than_a_chunk_is_cut(self, begin, clock):
        """What came back is cut to the length that is right by now."""
        slow = lambda backend: backend.done(keep=1, seconds=1.0)  # noqa: E731
        backend = Backend(slow, room=1)
        run = begin(backend, range(1000), pace=Pace(1e-5))

        assert drain(run) == (list(range(1000)), None)
        (_, first), (again, length) = backend.lengths[:2]
        assert first > 1
        assert (again, length) == (1, 1)

    def test_all_of_a_chunk_may_come_back(self, begin):
        """A worker that started nothing loses nothing."""
        backend = Backend(lambda backend: backend.done(keep=0))

        assert drain(begin(backend, range(7), chunksize=2)) == (list(range(7)), None)


class TestBounds:
    """What is read ahead and what waits."""

    def test_items_ahead_of_a_stuck_one(self, begin):
        """While the oldest chunk is not done, an endless input is read no further than the window."""
        newest = lambda backend: backend.done(at=-1)  # noqa: E731
        source = itertools.count()

        def first_at_last(backend):
            assert next(source) <= WINDOW_ITEMS
            return backend.done(at=0)

        # One chunk is held; all others end as they come, until no more are submitted.
        def hold(backend):
            if len(backend.chunks) > 1:
                backend.script.insert(0, hold)
                return newest(backend)
            return first_at_last(backend)

        run = iter(begin(Backend(hold), source, pace=Pace(1e-6)))

        assert next(run)[0] == 0
        run.close()

    @pytest.mark.parametrize("items", [range(30_000), iter(range(30_000))], ids=["length", "no length"])
    def test_a_fixed_length_beyond_the_window(self, begin, items):
        """Chunks longer than the window work, and only a few of them are under way."""
        most = []

        def count(backend):
            most.append(sum(len(chunk.items) for chunk in backend.chunks))
            backend.script.append(count)
            return backend.done()

        backend = Backend(count, room=100)
        results = drain(begin(backend, items, chunksize=WINDOW_ITEMS + 1))

        assert results == (list(range(30_000)), None)
        assert max(most) <= 3 * 2 * (WINDOW_ITEMS + 1)

    def test_chunks_that_become_shorter_do_not_starve_the_workers(self, begin):
        """What is under way may be of longer chunks than those that follow: the others go on all the same."""
        seconds = 1e-6

        def newest(backend):
            backend.script.append(newest)
            assert len(backend.chunks) == 4 or backend.submitted[-1][0] + backend.submitted[-1][1] == 100_000
            at = 1 if len(backend.chunks) > 1 and len(backend.submitted) < 9 else 0  # the oldest one lasts
            return backend.done(at=at, seconds=seconds * len(backend.chunks[at].items))

        assert drain(begin(Backend(newest), range(100_000), pace=Pace(seconds)))[0] == list(range(100_000))

    @pytest.mark.parametrize("turns", range(1, 14))
    def test_nothing_is_lost_when_workers_become_ready_in_between(self, begin, turns):
        """Whichever question it is that first hears of it."""
        backend = Backend(room=2)
        backend.prompt = False
        asked = itertools.count(1)
        backend.starting = lambda: next(asked) < turns
        pump = begin(backend, list(range(50)), function=lambda item: item, pace=Pace(1e-3), start_seconds=5.0)

        assert drain(pump) == (list(range(50)), None)

    @pytest.mark.parametrize("turns", range(1, 30, 4))
    def test_what_is_asked_back_is_heard_of(self, begin, clock, turns):
        """Chunks that wait for workers which take long are run by the caller, in order, and none is lost."""
        backend = Backend(room=2)
        backend.prompt = False
        asked = itertools.count(1)
        backend.starting = lambda: next(asked) < turns
        pump = begin(backend, list(range(30)), function=lambda item: item, pace=Pace(1.0), start_seconds=0.5)

        assert drain(pump) == (list(range(30)), None)

    def test_without_a_length_chunks_are_short(self, begin):
        """The end comes without notice, and perhaps soon, so that no long chunk may be begun last."""
        lengths = {}
        for name, items in (("known", range(3000)), ("unknown", (number for number in range(3000)))):
            backend = Backend()
            drain(begin(backend, items, pace=Pace(1e-3)))
            lengths[name] = backend.submitted[0][1]

        assert lengths == {"known": 20, "unknown": 1}

    def test_one_item_of_an_input_without_a_length_runs_here(self, begin):
        """The way to a worker and back would take longer than it saves."""
        backend = Backend()

        assert drain(begin(backend, (number for number in [7]), function=lambda item: item + 1)) == ([8], None)
        assert backend.submitted == []
        assert drain(begin(Backend(), (number for number in [7, 8]), function=None))[0] == [7, 8]

    @pytest.mark.parametrize("failing", [{}, {3: KeyError(3)}, {2: KeyError(2)}], ids=["none", "last", "first"])
    def test_bytes_that_wait(self, begin, failing):
        """Once results of many bytes wait for an older one, nothing new is read until they are handed out."""
        backend = Backend(lambda backend: backend.done(at=1, failing=failing, bytes_out=WINDOW_BYTES), room=3)
        run = iter(begin(backend, range(100), chunksize=2, on_error="return"))
        first = next(run)
        assert first[:2] == [0, 1]

        assert backend.lengths == [(0, 2), (2, 2), (4, 2)]

        assert len(first) + sum(map(len, run)) == 100
        assert len(backend.lengths) == 50

    def test_bytes_do_not_hold_back_the_oldest(self, begin):
        """What was handed back is submitted however much waits: results wait for it."""

        def much(backend):
            return [backend.done(at=1, bytes_out=2 * WINDOW_BYTES), backend.done(at=0, keep=1)]

        backend = Backend(much, room=2)

        assert drain(begin(backend, range(40), chunksize=4)) == (list(range(40)), None)


class TestEnds:
    """Whether the backend is given back, or killed first."""

    def test_the_end_closes(self, begin):
        """After the last result the backend is given back."""
        backend = Backend()
        drain(begin(backend, range(3)))

        assert backend.said == ["close"]

    def test_leaving_half_way_closes(self, begin):
        """Results that nobody wants any more cancel the rest."""
        backend = Backend()
        run = iter(begin(backend, itertools.count()))
        next(run)
        run.close()

        assert backend.said == ["close"]

    def test_an_error_kills(self, begin):
        """Nobody waits for what still runs when an error ends the call."""
        backend = Backend(lambda backend: backend.done(failing={0: KeyError(0)}))
        drain(begin(backend, range(9), chunksize=1))

        assert backend.said == ["hurry", "close"]

    def test_an_interrupt_kills(self, begin):
        """An interrupt while waiting goes through at once."""

        def interrupt(backend):
            raise KeyboardInterrupt

        backend = Backend(interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(begin(backend, range(9)))

        assert backend.said == ["hurry", "close"]

    def test_a_run_that_nobody_iterates_is_killed(self, begin):
        """`close` before any result releases the workers at once."""
        backend = Backend()
        begin(backend, range(9)).close()

        assert backend.said == ["hurry"]

    def test_a_run_can_be_widened(self, begin):
        """`widen` asks for as many workers as the run is meant for."""
        backend = Backend()
        begin(backend, range(9), n_jobs=7).widen()

        assert backend.said == [7]


class TestErrors:
    """Items that raise, and an input that does."""

    def test_results_before_the_error_come_first(self, begin):
        """An error that comes early waits for its place, and nothing new is submitted meanwhile."""
        error = KeyError(5)
        backend = Backend(lambda backend: backend.done(at=1, failing={5: error}, keep=2), room=3)
        run = begin(backend, range(100), chunksize=4)

        results, raised = drain(run)

        assert results == [0, 1, 2, 3, 4]
        assert raised is error
        assert backend.lengths == [(0, 4), (4, 4), (8, 4)]
        assert [(failed.index, failed.error, failed.tries) for failed in run.failures] == [(5, error, 1)]

    def test_the_first_of_two_errors_counts(self, begin):
        """An error found later, of an earlier item, is the one that is raised."""
        backend = Backend(
            lambda backend: backend.done(at=1, failing={4: KeyError(4)}),
            lambda backend: backend.done(at=0, failing={1: KeyError(1)}, keep=2),
        )

        results, error = drain(begin(backend, range(100), chunksize=4))

        assert results == [0]
        assert error.args == (1,)

    def test_what_was_handed_back_before_the_error_still_runs(self, begin):
        """Items before the error are done, even when they come back after it; items after it are not."""
        backend = Backend(
            lambda backend: backend.done(at=1, failing={4: KeyError(4)}, keep=1),
            lambda backend: backend.done(at=0, keep=1),
            room=2,
        )

        results, error = drain(begin(backend, range(100), chunksize=4))

        assert results == [0, 1, 2, 3]
        assert error.args == (4,)
        assert backend.lengths == [(0, 4), (4, 4), (1, 3)]

    def test_returned_errors_stand_in_their_places(self, begin):
        """With `on_error="return"` an error is the item's result, and is listed."""
        errors = {1: KeyError(1), 2: ValueError(2)}
        run = begin(Backend(lambda backend: backend.done(failing=errors)), range(6), chunksize=4, on_error="return")

        assert drain(run) == ([0, errors[1], errors[2], 3, 4, 5], None)
        assert [failed.index for failed in run.failures] == [1, 2]

    def test_unordered_errors_come_as_they_are_found(self, begin):
        """Without order, results that came before the error are handed out before it."""
        backend = Backend(
            lambda backend: backend.done(at=1), lambda backend: backend.done(at=0, failing={0: KeyError(0)})
        )

        results, error = drain(begin(backend, range(6), chunksize=2, ordered=False))

        assert results[:2] == [2, 3]
        assert error.args == (0,)

    def test_an_item_is_tried_again_alone(self, begin):
        """With `retries`, what failed is submitted again by itself, and its success counts."""
        backend = Backend(lambda backend: backend.done(failing={1: KeyError(1)}), room=1)
        run = begin(backend, range(6), chunksize=3, retries=1)

        assert drain(run) == (list(range(6)), None)
        assert (1, 1) in backend.lengths
        assert run.failures == []

    @pytest.mark.parametrize("on_error", ["raise", "return"])
    def test_retries_are_used_up(self, begin, on_error):
        """After the last retry the newest error counts, with the number of tries."""
        errors = [KeyError(tries) for tries in range(3)]

        def fail(backend):
            at = next((at for at, chunk in enumerate(backend.chunks) if chunk.first == 1), None)
            backend.script.append(fail)
            if at is None:
                return backend.done()
            return backend.done(at=at, failing={1: errors.pop(0)})

        run = begin(Backend(fail, room=1), range(3), chunksize=1, retries=2, on_error=on_error)
        last = errors[-1]

        expected = ([0, last, 2], None) if on_error == "return" else ([0], last)
        assert drain(run) == expected
        assert [(failed.index, failed.error, failed.tries) for failed in run.failures] == [(1, last, 3)]

    @pytest.mark.parametrize("options", [{}, {"on_error": "return"}, {"retries": 3}], ids=str)
    def test_stop_iteration_ends_the_results(self, begin, options):
        """The builtin's iteration ends there too: no error, no retry, no failure, and the input has no more."""
        backend = Backend(lambda backend: backend.done(failing={2: StopIteration("enough")}), room=1)
        run = begin(backend, range(100), chunksize=4, **options)

        assert drain(run) == ([0, 1], None)
        assert run.failures == []
        assert run._source.remaining() == 0
        assert backend.lengths == [(0, 4)]

    @pytest.mark.parametrize("options", [{}, {"on_error": "return"}, {"retries": 3}], ids=str)
    def test_an_interrupt_in_a_worker_raises_at_once(self, begin, options):
        """`KeyboardInterrupt` waits for no place, and is neither retried nor returned."""
        backend = Backend(lambda backend: backend.done(at=1, failing={4: KeyboardInterrupt()}))

        with pytest.raises(KeyboardInterrupt):
            list(begin(backend, range(100), chunksize=4, **options))

    def test_a_wish_to_exit_raises_in_its_place(self, begin):
        """`SystemExit` of an item is raised in its place."""
        backend = Backend(lambda backend: backend.done(failing={2: SystemExit(3)}))
        run = iter(begin(backend, range(100), chunksize=4))

        assert next(run) == [0, 1]
        with pytest.raises(SystemExit):
            next(run)

    def test_a_wish_to_exit_is_returned_like_any_error(self, begin):
        """With `on_error="return"` an item's `SystemExit` stands in its place, and the others have their results."""
        backend = Backend(lambda backend: backend.done(failing={2: SystemExit(3)}))

        results, error = drain(begin(backend, range(8), chunksize=4, on_error="return"))

        assert error is None
        assert type(results[2]) is SystemExit

    @pytest.mark.parametrize("options", [{}, {"on_error": "return"}, {"retries": 3}], ids=str)
    def test_an_error_of_the_input_comes_in_its_place(self, begin, options):
        """The input's own error comes after the results of the items before it, whatever the options."""

        def broken():
            yield from range(5)
            raise OSError("the input broke")

        results, error = drain(begin(Backend(), broken(), chunksize=2, **options))

        assert results == [0, 1, 2, 3, 4]
        assert type(error) is OSError


class TestDeaths:
    """Workers that die with items."""

    def test_the_culprit_is_named(self, begin):
        """Without retries a death is an error, after the results before it."""
        backend = Backend(Backend.done, lambda backend: backend.lost(running=True), room=2)

        results, error = drain(begin(backend, range(10), chunksize=2))

        assert results == [0, 1]
        assert isinstance(error, WorkerCrashError)
        assert (error.index, error.exitcode, error.lost, error.tries) == (2, -9, 0, 1)

    def test_finished_items_whose_results_are_gone_are_not_run_again(self, begin):
        """Results that were lost with a worker are the error's place, and their number is told with the culprit."""
        backend = Backend(lambda backend: backend.lost(running=True, finished=2))

        results, error = drain(begin(backend, range(10), chunksize=5))

        assert results == []
        assert (error.index, error.lost) == (2, 2)
        assert backend.lengths == [(0, 5), (5, 5)]

    def test_neighbours_run_again_when_errors_are_returned(self, begin):
        """Under "return" only the culprit's place holds the error; lost results are made again, the rest goes on."""
        backend = Backend(lambda backend: backend.lost(running=True, finished=2), room=1)
        run = begin(backend, range(6), chunksize=5, on_error="return")

        results, error = drain(run)

        assert error is None
        assert results[:2] + results[3:] == [0, 1, 3, 4, 5]
        assert isinstance(results[2], WorkerCrashError)
        assert [failed.index for failed in run.failures] == [2]
        assert backend.lengths == [(0, 5), (0, 2), (3, 2), (5, 1)]

    def test_everything_runs_again_with_retries(self, begin):
        """With retries the culprit is tried again too."""
        backend = Backend(lambda backend: backend.lost(running=True, finished=2), room=1)
        run = begin(backend, range(6), chunksize=5, retries=1)

        assert drain(run) == (list(range(6)), None)
        assert run.failures == []

    def test_a_culprit_out_of_retries_is_an_error(self, begin):
        """An item that kills its worker each time fails after its last try."""
        die = lambda backend: backend.lost(running=True)  # noqa: E731
        backend = Backend(die, die, room=1)

        results, error = drain(begin(backend, range(6), chunksize=1, retries=1))

        assert results == []
        assert (error.index, error.tries) == (0, 2)

    def test_an_idle_death_costs_nothing(self, begin):
        """Items that were not started go to another worker."""
        backend = Backend(lambda backend: backend.lost(), lambda backend: backend.lost(at=-1))

        assert drain(begin(backend, range(20), chunksize=3)) == (list(range(20)), None)

    def test_deaths_before_any_work_end_the_run(self, begin):
        """Workers that die again and again before they begin anything do not go on for ever."""

        def die(backend):
            backend.script.append(die)
            return backend.lost(exitcode=1)

        backend = Backend(die)
        results, error = drain(begin(backend, range(20), chunksize=3, retries=5, on_error="return"))

        assert results == []
        assert isinstance(error, WorkerCrashError)
        assert error.exitcode == 1
        assert backend.said == ["hurry", "close"]

    def test_work_in_between_forgives_deaths(self, begin):
        """Only deaths in a row count."""
        script = [lambda backend: backend.lost(), Backend.done] * 10

        assert drain(begin(Backend(*script), range(40), chunksize=2)) == (list(range(40)), None)


class TestRefusals:
    """Chunks and items that workers do not take."""

    @pytest.mark.parametrize("function", [None, echo], ids=["named", "auto"])
    def test_a_failed_initializer_is_always_an_error(self, begin, function):
        """Nothing may run where the initializer failed, in the caller neither."""
        failure = InitializerError("it failed")
        backend = Backend(lambda backend: Refused(None, failure))

        assert drain(begin(backend, range(9), function=function)) == ([], failure)

    def test_a_named_backend_that_refuses_is_an_error(self, begin):
        """A function that cannot be rebuilt in a worker is an error where workers were asked for."""
        results, error = drain(begin(Backend(Backend.refused), range(9)))

        assert results == []
        assert isinstance(error, SerializationError)

    def test_auto_takes_the_work_back(self, begin):
        """Under "auto" what was refused runs in the caller, with one warning, and the input keeps the rest."""
        backend = Backend(*[Backend.refused] * 4)
        run = begin(backend, range(100), function=lambda item: item * 2, chunksize=3)

        with pytest.warns(RuntimeWarning, match="stays in one process: the function is unknown there") as caught:
            results, error = drain(run)

        assert error is None
        assert len(caught) == 1
        assert results == [item * 2 for item in range(12)]
        assert run.withdrawal is not None
        assert run._source.take(2) == [12, 13]

    def test_an_item_that_cannot_be_sent_is_an_error_in_its_place(self, begin):
        """A named backend runs every other item and names the one that it cannot."""
        backend = Backend()
        run = begin(backend, [0, 1, "unsendable", 3], chunksize=4)

        results, error = drain(run)

        assert results == [0, 1]
        assert isinstance(error, Unsendable)
        assert error.index == 2
        assert [failed.index for failed in run.failures] == [2]

    def test_items_that_cannot_be_sent_are_returned_in_their_places(self, begin):
        """Under "return" such an item's place holds the error, and all others have their results."""
        items = ["unsendable", 1, "unsendable", 3, "unsendable"]

        results, error = drain(begin(Backend(), items, chunksize=5, on_error="return"))

        assert error is None
        assert [result if isinstance(result, int) else result.index for result in results] == [0, 1, 2, 3, 4]

    def test_auto_runs_them_in_the_caller(self, begin):
        """Under "auto" the caller runs what cannot be sent, with one warning however many there are."""
        here = []

        def function(item):
            here.append(item)
            return item

        items = [0, "unsendable", 2, "unsendable", "unsendable", 5]
        with pytest.warns(RuntimeWarning, match="runs it in the caller: item 1 cannot be sent") as caught:
            assert drain(begin(Backend(), items, function=function, chunksize=4)) == (items, None)

        assert len(caught) == 1
        assert here == ["unsendable"] * 3

    @pytest.mark.filterwarnings("ignore:amorsize runs it in the caller")
    @pytest.mark.parametrize("on_error", ["raise", "return"])
    def test_an_error_in_the_caller_is_like_one_in_a_worker(self, begin, on_error):
        """An item that the caller runs is retried and fails as elsewhere."""
        tries = []

        def function(item):
            tries.append(item)
            raise KeyError(len(tries))

        run = begin(Backend(), [0, "unsendable", 2], function=function, retries=2, on_error=on_error)
        results, error = drain(run)

        failed = results[1] if on_error == "return" else error
        assert results[0] == 0
        assert failed.args == (3,)
        assert [(failed.index, failed.tries) for failed in run.failures] == [(1, 3)]


class TestWorkHere:
    """Under "auto" the caller need not be idle while workers start."""

    def begin_cold(self, begin, clock, *, item_seconds, **given):
        """Begin a run whose workers take 0.1 s to start; give it, its backend and what ran in the caller."""
        here, backend = [], Backend(room=2)
        backend.is_starting = True

        def function(item):
            clock.now += item_seconds
            here.append(item)
            return item

        def answer(backend):
            backend.is_starting = False
            backend.script.append(answer)
            seconds = len(backend.chunks[0].items) * item_seconds
            clock.now += seconds / 2
            return backend.done(seconds=seconds)

        backend.script.append(answer)
        run = begin(backend, range(1000), function=function, pace=Pace(item_seconds), start_seconds=0.1, **given)
        return run, backend, here

    def test_short_items_run_here_meanwhile(self, begin, clock):
        """Items that will be over before the workers are ready run in the caller; results stay in order."""
        run, _, here = self.begin_cold(begin, clock, item_seconds=1e-4)

        assert drain(run) == (list(range(1000)), None)
        assert 0.05 < len(here) * 1e-4 < 0.1

    def test_it_stops_when_a_worker_is_ready(self, begin, clock):
        """The first worker that is ready gets the caller's attention."""
        run, backend, here = self.begin_cold(begin, clock, item_seconds=1e-4)
        asked = itertools.count()
        backend.starting = lambda: next(asked) < 3

        assert drain(run) == (list(range(1000)), None)
        assert 0 < len(here) <= 3 * 10

    def test_long_items_do_not(self, begin, clock):
        """An item that may still run when the workers are ready is not begun here."""
        run, _, here = self.begin_cold(begin, clock, item_seconds=0.06)

        assert drain(run) == (list(range(1000)), None)
        assert here == []

    def test_nothing_does_where_a_backend_was_named(self, begin, clock):
        """Every item goes to a worker that was asked for."""
        backend = Backend()
        backend.is_starting = True

        drain(begin(backend, range(100), pace=Pace(1e-5), start_seconds=0.1))

        assert sum(length for _, length in backend.lengths) == 100

    @pytest.mark.parametrize("on_error", ["raise", "return"])
    def test_an_error_here_stands_in_its_place(self, begin, clock, on_error):
        """What fails in the caller while workers start fails in its place."""
        backend = Backend(room=1)
        backend.is_starting = True
        function = lambda item: 1 // (item - 50)  # noqa: E731
        run = begin(
            backend, range(200), function=function, pace=Pace(1e-4), start_seconds=0.1, chunksize=50, on_error=on_error
        )

        results, error = drain(run)

        assert results[:50] == list(range(50))
        assert isinstance(error if on_error == "raise" else results[50], ZeroDivisionError)
        assert len(results) == (50 if on_error == "raise" else 200)


class TestRefusing:
    """A backend that takes nothing, and has nothing under way, does not end the results before the input."""

    def test_a_named_one_is_an_error(self, begin):
        """Nobody else may run the items."""
        results, error = drain(begin(Backend(room=0), range(3)))

        assert results == []
        assert type(error) is AmorsizeError
        assert "takes no more items from number 0 on" in str(error)

    def test_another_is_left(self, begin):
        """The caller runs the rest."""
        run = begin(Backend(room=0), range(3), function=echo)

        assert drain(run) == ([], None)
        assert run.withdrawal is not None
        assert run._source.take(3) == [0, 1, 2]


class TestWithdrawing:
    """Under "auto" workers that do not help get no more items."""

    def scripted(self, clock, *, wall, work, first=None):
        """Give a backend whose chunks take `wall` seconds to come back and say that their items took `work`."""

        def answer(backend):
            clock.now += first if first is not None and not backend.script else wall
            backend.script.append(answer)
            return backend.done(seconds=work)

        return Backend(answer, room=2)

    def test_slow_workers_are_left(self, begin, clock):
        """When the caller would have been faster, the input keeps the rest, and all that was begun is handed out."""
        backend = self.scripted(clock, wall=0.010, work=0.001)
        run = begin(backend, range(1000), function=echo, chunksize=5)

        results, error = drain(run)

        assert error is None
        assert run.withdrawal.reason == "workers turned out slower than the caller"
        assert results == list(range(len(results)))
        assert 0 < len(results) < 100
        assert run._source.take(1) == [len(results)]
        assert backend.said == ["close"]

    def test_good_workers_are_kept(self, begin, clock):
        """Workers whose items add up to more than the time that passed do help."""
        run = begin(self.scripted(clock, wall=0.010, work=0.018), range(1000), function=echo, chunksize=5)

        assert drain(run) == (list(range(1000)), None)
        assert run.withdrawal is None

    def test_their_start_does_not_count_against_them(self, begin, clock):
        """However long workers took to start, they are judged by what they do from then on."""

        def start(backend):
            clock.now += 100.0
            backend.script.append(self.scripted(clock, wall=0.010, work=0.018).script[0])
            return backend.done(seconds=0.018)

        run = begin(Backend(start, room=2), range(1000), function=echo, chunksize=5)

        assert drain(run) == (list(range(1000)), None)
        assert run.withdrawal is None

    def test_an_earlier_runs_work_does_not_count_for_them(self, begin, clock):
        """A pace that already knows much work does not make these workers look good."""
        pace = Pace()
        pace.add(Results(0, [None] * 1000, {}, 60.0, 60.0))
        backend = self.scripted(clock, wall=0.010, work=0.001)
        run = begin(backend, range(1000), function=echo, chunksize=5, pace=pace)

        results, _ = drain(run)

        assert run.withdrawal is not None
        assert len(results) < 100

    def test_workers_that_were_asked_for_are_kept(self, begin, clock):
        """A named backend gets every item, however slow it is."""
        backend = self.scripted(clock, wall=1.0, work=0.001)

        assert drain(begin(backend, range(100), chunksize=5)) == (list(range(100)), None)

    def test_what_comes_back_then_runs_here(self, begin, clock):
        """Items handed back after the withdrawal run in the caller, in their places."""
        here = []

        def function(item):
            here.append(item)
            return item

        def answer(backend):
            clock.now += 0.1
            backend.script.append(answer)
            return backend.done(keep=2, seconds=0.001)

        run = begin(Backend(answer, room=2), range(1000), function=function, chunksize=5)
        results, _ = drain(run)

        assert run.withdrawal is not None
        assert results == list(range(len(results)))
        assert here
        assert run._source.take(1) == [len(results)]

    def test_an_error_of_the_input_is_not_forgotten(self, begin, clock):
        """An input that broke just before the withdrawal breaks for whoever reads on."""

        def broken():
            yield from range(12)
            raise OSError("the input broke")

        run = begin(self.scripted(clock, wall=1.0, work=0.001), broken(), function=echo, chunksize=5)
        results, error = drain(run)

        if error is None:
            with pytest.raises(OSError, match="the input broke"):
                list(run._source.iterator)
        else:
            assert type(error) is OSError
        assert results == list(range(12))


class TestBeside:
    """A run that is fed by a second thread while the caller runs an item."""

    def test_a_step_feeds_and_listens(self, begin):
        """A step keeps workers fed and takes results in, which are handed out later; nothing runs in the caller."""
        backend = Backend(room=2)
        run = begin(backend, range(20), function=lambda _: pytest.fail("ran in the caller"), chunksize=2)

        run.step(0.01)
        run.step(0.01)

        assert backend.lengths == [(0, 2), (2, 2), (4, 2)]
        assert drain(run) == (list(range(20)), None)

    def test_an_item_that_cannot_be_sent_waits_for_the_caller(self, begin):
        """What only the caller can run is left until the caller is free, and the workers get no more."""
        here = []
        items = [0, 1, "unsendable", 3, 4, 5]
        run = begin(Backend(room=9), items, function=lambda item: here.append(item) or item, chunksize=2)

        run.step(0.01)

        assert here == []
        assert run.withdrawal is not None
        assert drain(run) == ([0, 1, "unsendable", 3], None)
        assert here == ["unsendable", 3]
        assert run._source.take(5) == [4, 5]


def unruly(clock, random, starts, failing, options, deaths):
    """Return a line for a script, for ever: some chunk ends, in whole or in part, or its worker dies.

    Items of the indexes in `failing` fail. Every start of an item is counted in `starts`.
    """
    sliced, stops = options["chunksize"] is None, options["on_error"] == "raise" and not options["retries"]

    def answer(backend):
        backend.script.append(answer)
        clock.now += random.choice([0.0, 0.001, 0.1])
        at = random.randrange(len(backend.chunks))
        chunk = backend.chunks[at]
        if deaths and random.random() < 0.2:
            return backend.lost(at)
        keep = random.randint(0, len(chunk.items)) if sliced else len(chunk.items)
        errors = {index: KeyError(index) for index in range(chunk.first, chunk.first + keep) if index in failing}
        if errors and stops:
            index = min(errors)
            keep, errors = index - chunk.first + 1, {index: errors[index]}
        starts.update(range(chunk.first, chunk.first + keep))
        return backend.done(at, failing=errors, keep=keep, seconds=random.choice([0.0, 0.01]))

    return answer


class TestLearning:
    """What a run's own chunks tell of the next ones'."""

    @pytest.fixture
    def learnt(self, monkeypatch):
        learnt = []
        monkeypatch.setattr(machine, "learn_chunk", lambda _, seconds: learnt.append(seconds))
        return learnt

    def at_a_millisecond(self, clock, **given):
        """Give a backend that takes the caller a millisecond a chunk, and each user of results ten."""

        def wait(backend):
            clock.now += 0.001
            return Backend.done(backend, **given)

        return Backend(*[wait] * 100)

    def test_small_chunks_tell_what_a_chunk_costs(self, clock, begin, learnt):
        """It is the caller's own time, without what the user does between two results."""
        for _ in begin(self.at_a_millisecond(clock), range(80), chunksize=2):
            clock.now += 0.010

        assert learnt == [pytest.approx(0.001)]

    @pytest.mark.parametrize(
        ("count", "chunksize", "bytes_out"),
        [(31, 1, 0), (400, 10, 0), (40, 1, 1_000_000)],
        ids=["few", "long", "large"],
    )
    def test_others_do_not(self, clock, begin, learnt, count, chunksize, bytes_out):
        """A few chunks say little, and others say more of their items."""
        drain(begin(self.at_a_millisecond(clock, bytes_out=bytes_out), range(count), chunksize=chunksize))

        assert learnt == []


class TestProperty:
    """Whatever the workers do, the results are the builtin's."""

    @pytest.mark.slow
    def test_any_backend_gives_the_builtins_results(self, clock):
        """Chunks end in any order, in parts, come back, die or fail: order, error and count of starts are right."""
        hypothesis = pytest.importorskip("hypothesis")
        from hypothesis import strategies as st

        @hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
        @hypothesis.given(
            count=st.integers(0, 60),
            failing=st.frozensets(st.integers(0, 70), max_size=3),
            options=st.fixed_dictionaries(
                {
                    "ordered": st.booleans(),
                    "on_error": st.sampled_from(["raise", "return"]),
                    "retries": st.sampled_from([0, 0, 2]),
                    "chunksize": st.sampled_from([None, 1, 3, 100]),
                }
            ),
            auto=st.booleans(),
            deaths=st.booleans(),
            room=st.integers(1, 6),
            random=st.randoms(use_true_random=False),
        )
        def check(count, failing, options, auto, deaths, room, random):
            starts = Counter()

            def function(item):
                starts[item] += 1
                if item in failing:
                    raise KeyError(item)
                return item

            source = Source((iter(range(count)),))
            backend = Backend(unruly(clock, random, starts, failing, options, deaths), room=room)
            run = Pump(backend, source, Options(**options), Pace(), [], function if auto else None)
            results, error = drain(run)
            if isinstance(error, WorkerCrashError):
                assert deaths
                return
            if error is None and run.withdrawal is not None:
                rest = [KeyError(item) if item in failing else item for item in source.iterator]
                results += rest
            failed = sorted(index for index in failing if index < count)
            if error is not None or (failed and options["on_error"] == "raise" and run.withdrawal is None):
                assert options["on_error"] == "raise"
                assert error.args[0] in failed
                if options["ordered"]:
                    assert (results, error.args[0]) == (list(range(failed[0])), failed[0])
            else:
                plain = [result.args[0] if isinstance(result, KeyError) else result for result in results]
                assert (plain if options["ordered"] else sorted(plain)) == list(range(count))
            most = 1 + options["retries"]
            assert all(times <= (most if index in failing else 1) for index, times in starts.items())

        check()


class TestReadingSlowly:
    """An input that is not read as it is must not hold back results that are there."""

    def test_results_come_before_the_next_pull(self, begin, clock):
        """Where each pull takes long, what came meanwhile is handed out first."""
        handed = []
        seen = []

        def slow():
            for number in range(6):
                seen.append(len(handed))
                clock.now += 1.0
                yield number

        for values in begin(Backend(), slow()):
            handed += values

        assert handed == list(range(6))
        assert seen == list(range(6))

    def test_a_chunk_is_read_no_longer_than_a_moment(self, begin, clock):
        """A slow input gives shorter chunks, but for a number that the user fixed."""

        def slow():
            for number in range(8):
                clock.now += 0.0015
                yield number

        assert run_lengths(begin, slow(), pace=Pace(1e-6))[0] <= 2
        assert run_lengths(begin, slow(), chunksize=4) == [4, 4]

    def test_an_item_that_cannot_wait_runs_before_the_next_is_pulled(self, begin):
        """Under "auto" it runs in the caller at once."""
        ran = []

        def locks():
            for number in range(3):
                yield Ran(number, ran)
                assert ran == list(range(number + 1))

        with pytest.warns(RuntimeWarning, match="runs it in the caller"):
            results, error = drain(begin(Backend(), locks(), function=Ran.run))

        assert (results, error) == ([0, 1, 2], None)

    def test_with_a_named_backend_it_is_an_error(self, begin):
        """The item's own, in its place."""
        results, error = drain(begin(Backend(), iter([1, Ran(2, []), 3])))

        assert results == [1]
        assert isinstance(error, SerializationError)
        assert "item 1 cannot be sent" in str(error)

    def test_items_that_hold_iterators_end_the_run(self, begin):
        """A few in a row, and the rest is left to the caller, with no warning."""
        rows = iter(range(9))
        run = begin(Backend(), (rows for _ in range(9)), function=next)

        results, error = drain(run)

        assert (results, error) == ([0, 1, 2], None)
        assert run.withdrawal is not None
        assert run.withdrawal.for_good

    def test_what_was_fixed_is_sent_again_as_it_was(self, begin):
        """A retry and a hand-back find the record as it was when it was read."""
        record = []

        def refilled():
            for number in range(4):
                record[:] = [number]
                yield record

        backend = Backend(
            lambda backend: backend.done(failing={0: OSError("once")}),
            lambda backend: backend.done(keep=0),
        )
        results, error = drain(begin(backend, refilled(), retries=1))

        assert error is None
        assert [load(item.data) for item in results] == [[0], [1], [2], [3]]


class Ran:
    """Notes that it ran; it cannot be pickled."""

    def __init__(self, number, ran):
        self.number = number
        self.ran = ran

    def __reduce__(self):
        raise TypeError("stays")

    def run(self):
        self.ran.append(self.number)
        return self.number


def run_lengths(begin, items, **options):
    """Return the lengths of the chunks in which items were submitted."""
    backend = Backend()
    drain(begin(backend, items, **options))
    return [length for _, length in backend.lengths]


class Told:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.chunks = []
        self.events = []
        self.errors = []

    def sent(self, chunk, nbytes):
        self.chunks.append((chunk, nbytes))

    def heard(self, event):
        self.events.append(event)

    def fed(self, seconds):
        pass

    def waited(self, seconds, *, starting):
        pass

    def ran_here(self, first, items, began, seconds):
        pass

    def ended(self, error):
        self.errors.append(error)


class TestObserver:
    """Somebody may look on, chunk by chunk."""

    def test_every_chunk_is_told(self, clock):
        """When it was given to the backend, and when something was heard of it."""
        told = Told()
        events = [
            Results(0, [0, 1], {}, 0.5, 0.5, 7, worker=41, sent=1.0, began=0.25),
            Results(2, [2, 3], {}, 0.5, 0.5, 9, worker=42, sent=2.0, began=None),
        ]

        left = [*events]

        def answer(backend):
            backend.chunks.pop(0)
            return left.pop(0)

        backend = Backend(answer, answer)
        pump = Pump(backend, Source((range(4),)), Options(chunksize=2), Pace(), [], observer=told)

        assert drain(pump) == ([0, 1, 2, 3], None)
        assert [chunk.first for chunk, _ in told.chunks] == [0, 2]
        assert told.events == events
        assert told.errors == [None]

    def test_the_error_that_ends_it_is_told(self, clock):
        """Once, after the last chunk."""
        told, error = Told(), KeyError(1)
        backend = Backend(lambda backend: backend.done(failing={1: error}))
        pump = Pump(backend, Source((range(4),)), Options(chunksize=2), Pace(), [], observer=told)

        drain(pump)

        assert told.errors == [error]
