"""Serial work: the builtin's results one by one, whatever the clock says, and nothing left of the watching."""

from __future__ import annotations

import contextlib
import itertools
import threading
from functools import partial
from itertools import chain

import pytest

from amorsize.call import caller as serial_module
from amorsize.call import watch as watch_module
from amorsize.call.caller import Attempt, Serial, apply_star, plain
from amorsize.feed.outcome import Outcome
from amorsize.feed.source import Source

GUARD_SECONDS = 20  # for what another thread does at once; nothing waits so long unless it is stuck
SHORT = 1e-6
LONG = 1e-3
# With items of SHORT seconds, 4 are timed alone, 304 are unwatched, and then the watch begins: an item of each phase.
PHASES = {"long": 1, "unwatched": 100, "watched": 700}


WATCHED = pytest.mark.parametrize(
    ("kind", "stretch"),
    [(list, "_watched_stretch"), (lambda numbers: numbers, "_range_stretch")],
    ids=["list", "range"],
)


class Clock:
    """A clock that only moves when an item runs."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeWatch:
    """Never raises the flag by itself."""

    def __init__(self):
        self.flag = []
        self.interrupt = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def begin(self, interrupt=None):
        self.flag.clear()
        self.interrupt = interrupt

    def up(self):
        """Do as the thread does."""
        self.flag.append(True)
        if self.interrupt is not None:
            self.interrupt()


class Counting:
    """An iterator over some items that counts how often it was asked; an exception among them is raised."""

    def __init__(self, items):
        self.items = iter(items)
        self.asked = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        item = next(self.items)
        if isinstance(item, Exception):
            raise item
        return item


@pytest.fixture
def clock(monkeypatch):
    """Give serial work a clock that the test moves, and retries that do not wait."""
    clock = Clock()
    monkeypatch.setattr(serial_module, "perf_counter", clock)
    monkeypatch.setattr(serial_module, "sleep", lambda _: None)
    return clock


@pytest.fixture
def watches(monkeypatch):
    """Put a watch that never raises its flag in place of the thread; give the list of those that were made."""
    made = []

    def make(**_):
        made.append(FakeWatch())
        return made[-1]

    monkeypatch.setattr(serial_module, "Watch", make)
    return made


def stay(_):
    return False


def begin(function, items, *, star=False, leave=stay, attempt=None):
    return Serial(partial(apply_star, function) if star else function, Source((items,)), leave=leave, attempt=attempt)


def attempting(function, *, retries=0, returns=False, failures=None):
    return Attempt(function, Outcome(retries, returns, [] if failures is None else failures))


def timed(clock, seconds=SHORT, slow=()):
    """Return an identity that moves the clock, by `LONG` for the items that are slow."""

    def function(item):
        clock.now += LONG if item in slow else seconds
        return item

    return function


def watch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "amorsize-watch"]


def raising(error):
    raise error


def all_results(serial):
    return list(chain.from_iterable(serial.phases()))


class TestPlain:
    """Work that cannot become anything else."""

    def test_each_next_pulls_and_runs_one_item(self):
        """Nothing is read or run ahead."""
        ran, items = [], Counting(range(5))
        results = plain(ran.append, Source((items,)), star=False)

        assert (items.asked, ran) == (0, [])
        next(results)
        assert (items.asked, ran) == (1, [0])

    def test_star_spreads_tuples(self):
        """An item that is a tuple of arguments is spread."""
        assert list(plain(divmod, Source(([(7, 2), (9, 3)],)), star=True)) == [(3, 1), (3, 0)]

    def test_stop_iteration_of_the_function_ends_it(self):
        """The builtin's iteration ends there too."""
        answers = iter("ab")

        assert list(plain(lambda _: next(answers), Source((range(5),)), star=False)) == ["a", "b"]

    def test_an_error_ends_it(self):
        """After an error nothing more comes, and nothing more is read."""
        items = Counting([1, 0, 2])
        results = plain(lambda number: 1 // number, Source((items,)), star=False)

        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == []
        assert items.asked == 2


class TestAttempt:
    """Running one item where errors do not simply end the call."""

    def test_an_item_is_retried_as_often_as_allowed(self, clock):
        """The first try that succeeds counts, and nothing has failed."""
        tries, failed = [], []

        def function(item):
            tries.append(item)
            return 1 // max(0, len(tries) - 2)

        attempt = attempting(function, retries=2, failures=failed)

        assert attempt("item", 4) == 1
        assert (tries, failed) == (["item"] * 3, [])

    @pytest.mark.parametrize("returns", [False, True])
    def test_the_last_error_counts(self, clock, returns):
        """What fails each time is told once, with the number of tries, and is raised or returned."""
        failed = []
        attempt = attempting(int, retries=1, returns=returns, failures=failed)

        if returns:
            error = attempt("x", 4)
        else:
            with pytest.raises(ValueError, match="invalid literal") as caught:
                attempt("x", 4)
            error = caught.value

        assert failed == [(4, error, 2)]

    @pytest.mark.parametrize("kind", [StopIteration, KeyboardInterrupt, GeneratorExit])
    def test_what_is_no_failure_passes(self, clock, kind):
        """The end of iteration and interrupts are neither retried nor returned."""
        tries = []

        def function(item):
            tries.append(item)
            raise kind

        with pytest.raises(kind):
            attempting(function, retries=3, returns=True)(1, 0)
        assert tries == [1]

    def test_apply_star_spreads(self):
        """`apply_star` calls with a tuple's parts."""
        assert apply_star(divmod, (7, 2)) == (3, 1)


class TestPhases:
    """When items are timed alone, and when they are not."""

    def names(self, serial):
        """Run a serial and return (phase, number of results) of each phase that had any."""
        counts = [(phase.__name__, sum(1 for _ in phase)) for phase in serial.phases()]
        return [(name, count) for name, count in counts if count]

    def stopped_stretch(self, serial, watches):
        """Return the first watched stretch, stopped by its watch after one item."""
        phases = serial.phases()
        for _ in range(2):
            list(next(phases))
        stretch = next(phases)
        next(stretch)
        watches[-1].up()
        return stretch

    def test_long_items_are_timed_one_by_one(self, clock, watches):
        """Long items never leave the clock."""
        serial = begin(timed(clock, LONG), range(50))

        assert self.names(serial) == [("_long_items", 50)]
        assert serial.times.n == 50
        assert serial.times.max == pytest.approx(LONG)
        assert serial.seconds == pytest.approx(50 * LONG)
        assert serial.seconds_per_item == pytest.approx(LONG)

    @WATCHED
    def test_short_items_go_unwatched_and_then_watched(self, clock, watches, kind, stretch):
        """A few short items are timed, some hundred microseconds' worth go in small blocks, the rest is watched."""
        serial = begin(timed(clock), kind(range(1000)))

        assert self.names(serial) == [("_long_items", 4), ("_unwatched", 304), (stretch, 692)]
        assert serial.times.n == 1000
        assert serial.seconds_per_item == pytest.approx(SHORT)
        assert len(watches) == 1

    def test_few_items_need_no_thread(self, monkeypatch):
        """A hundred trivial items are over before a thread would pay, by any clock."""
        monkeypatch.setattr(serial_module, "Watch", lambda: pytest.fail("a watch was made"))
        monkeypatch.setattr(serial_module, "_UNWATCHED_SECONDS", float("inf"))

        assert all_results(begin(abs, range(100))) == list(range(100))

    def test_a_slow_item_in_small_blocks_ends_them(self, clock, watches):
        """A slow item among unwatched ones brings back the timing of each, at the latest after its block."""
        serial = begin(timed(clock, slow=(50,)), range(55))

        assert self.names(serial) == [("_long_items", 4), ("_unwatched", 48), ("_long_items", 3)]
        assert serial.times.n == 55 - 8

    @WATCHED
    def test_a_slow_item_in_a_stretch_ends_it(self, clock, watches, kind, stretch):
        """The flag is seen right after the item during which it went up, and what looks long is then timed alone."""

        def function(item):
            clock.now += SHORT
            if item == 700:
                clock.now += 1.0
                watches[-1].up()
            return item

        serial = begin(function, kind(range(720)))

        assert self.names(serial)[2:] == [(stretch, 701 - 308), ("_long_items", 19)]

    @WATCHED
    def test_a_flag_without_a_slow_item_begins_another_stretch(self, clock, watches, kind, stretch):
        """Stretches of short items follow one another under one watch."""

        def function(item):
            clock.now += SHORT
            if item in (400, 500):
                watches[-1].up()
            return item

        serial = begin(function, kind(range(600)))

        assert self.names(serial)[2:] == [(stretch, 401 - 308), (stretch, 100), (stretch, 99)]
        assert len(watches) == 1
        assert serial.times.n == 600

    def test_a_flag_up_before_the_first_item_of_a_stretch_skips_none(self, clock, watches):
        """A user who pauses between two stretches meets the next item afterwards."""
        phases = begin(timed(clock), range(1000)).phases()
        before = list(chain.from_iterable(itertools.islice(phases, 2)))
        stretch = next(phases)
        watches[-1].up()

        assert list(stretch) == []
        assert before + list(chain.from_iterable(phases)) == list(range(1000))

    def test_a_range_with_steps(self, clock, watches):
        """The items of any range tell their positions, up to the last."""
        numbers = range(5000, -5000, -7)
        serial = begin(timed(clock, slow=(numbers[700],)), numbers)
        results = []
        for phase in serial.phases():
            for number in phase:
                results.append(number)
                if number in (numbers[500], numbers[-1]):
                    watches[-1].up()

        assert results == list(numbers)
        assert serial.ended

    def test_what_is_left_of_a_range_is_told_while_it_is_interrupted(self, clock, watches):
        """Its iterator is at its end then, and the input is not."""
        serial = begin(timed(clock), range(1000))
        stretch = self.stopped_stretch(serial, watches)

        assert serial._source.remaining() == 1000 - 308 - 1
        assert list(stretch) == []

    def test_an_interrupt_at_the_end_of_a_stretch_ends_it(self, clock, watches, monkeypatch):
        """Nothing is run again from where the stretch began."""
        started = []

        def function(item):
            clock.now += SHORT
            started.append(item)
            return item

        serial = begin(function, range(1000))
        stretch = self.stopped_stretch(serial, watches)
        monkeypatch.setattr(serial._source, "seek", lambda _: raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            next(stretch)

        assert serial.ended
        assert len(started) == len(set(started)) == 309

    def test_after_a_long_item_more_short_ones_are_timed(self, clock, watches):
        """Five per cent of a long item's time go into timing the short ones that follow it."""
        serial = begin(timed(clock, slow=(0,)), range(200))

        assert self.names(serial)[0] == ("_long_items", 1 + 60)

    def test_a_pause_of_the_users_does_not_count_as_work(self, clock, watches):
        """The time between two `next` is not the function's, however long; a bounded number of items is timed then."""
        serial = begin(timed(clock), range(3000))
        phases = serial.phases()
        list(next(phases))
        unwatched = next(phases)
        next(unwatched)
        clock.now += 3600.0
        list(unwatched)

        assert len(list(next(phases))) == 960
        assert serial.seconds < 0.01

    @pytest.mark.parametrize(("seconds", "every"), [(0.001, 97), (0.003, 97), (0.02, 500), (0.02, 5), (0.0002, 13)])
    def test_slow_items_strewn_among_short_ones_are_counted(self, clock, monkeypatch, seconds, every):
        """Slow items here and there may be most of the time, and most of that time becomes known."""

        class ClockWatch(FakeWatch):
            def begin(self, interrupt=None):
                self.flag = Flag(clock.now + 0.005)

        class Flag:
            def __init__(self, until):
                self.until = until

            def __bool__(self):
                return clock.now > self.until

        monkeypatch.setattr(serial_module, "Watch", ClockWatch)

        def function(item):
            clock.now += seconds if item % every == every // 2 else 1e-7

        serial = begin(function, list(range(20_000)))

        all_results(serial)

        assert serial.seconds > 0.8 * clock.now

    def test_the_newest_timed_items_are_kept(self, clock, watches):
        """A few items are kept with their results, the oldest going first."""
        serial = begin(lambda item: timed(clock, LONG)(item) + 100, range(9))

        all_results(serial)

        assert serial.recent == [(7, 107), (8, 108)]

    def test_no_results_of_no_items(self, clock, watches):
        """An empty input is over at once."""
        serial = begin(abs, [])

        assert all_results(serial) == []
        assert serial.ended
        assert serial.seconds_per_item == 0.0


class TestLeaving:
    """Handing the rest over."""

    def test_leave_is_asked_less_and_less_often(self, clock, watches):
        """Each time, a quarter more time has passed: asking costs little however many items there are."""
        asked = []
        serial = begin(timed(clock, LONG), range(1000), leave=lambda one: asked.append(one.seconds))

        all_results(serial)

        assert len(asked) < 40
        assert all(later >= 1.25 * sooner for sooner, later in itertools.pairwise(asked))

    @pytest.mark.parametrize("seconds", [SHORT, LONG])
    def test_a_yes_is_final(self, clock, watches, seconds):
        """Once `leave` said yes it is not asked again, and no further item is read."""
        asked = []

        def leave(_):
            asked.append(None)
            return len(asked) == 1

        items = Counting(range(1000))
        serial = begin(timed(clock, seconds), items, leave=leave)

        results = all_results(serial)

        assert len(asked) == 1
        assert not serial.ended
        assert items.asked == len(results) < 1000

    @pytest.mark.parametrize("answers", [1, 2, 3, 4], ids="after {} answers".format)
    def test_the_rest_stays_in_the_source(self, clock, watches, answers):
        """Wherever serial work is left, its results and what is still in the source are all."""

        def function(item):
            clock.now += SHORT
            if watches and item % 100 == 0:
                watches[-1].up()
            return item

        asked = itertools.count(1)
        serial = begin(function, list(range(1000)), leave=lambda _: next(asked) == answers)

        results = all_results(serial)

        assert not serial.ended
        assert results == list(range(len(results)))
        assert serial._source.index == len(results)
        assert serial._source.take(2000) == list(range(len(results), 1000))


KINDS = {
    "list": lambda count: (list(range(count)), False, None),
    "tuple": lambda count: (tuple(range(count)), False, None),
    "range": lambda count: (range(count), False, None),
    "dict": lambda count: (dict.fromkeys(range(count)), False, None),
    "generator": lambda count: ((number for number in range(count)), False, None),
    "star": lambda count: ([(number,) for number in range(count)], True, None),
    "attempt": lambda count: (list(range(count)), False, attempting),
}


@pytest.fixture(params=KINDS)
def start(request, clock, watches):
    """Begin serial work of a function on so many items, on every kind of input and with attempts."""

    def start(function, count=1000, leave=stay):
        items, star, attempt = KINDS[request.param](count)
        made = None if attempt is None else attempt(function)
        return begin(function, items, star=star, leave=leave, attempt=made)

    return start


class TestEveryPhase:
    """What holds wherever an item runs."""

    def test_the_index_is_right_between_phases(self, start, clock, watches):
        """After every phase the source's index is the number of results so far."""

        def function(item):
            clock.now += LONG if item % 200 == 150 else SHORT
            if watches and item % 70 == 0:
                watches[-1].up()
            return item

        results, serial = [], start(function)
        for phase in serial.phases():
            results.extend(phase)

            assert serial._source.index == len(results)
        assert results == list(range(1000))

    @pytest.mark.parametrize("stop_after", PHASES.values(), ids=PHASES)
    def test_the_index_is_right_after_a_close(self, start, clock, stop_after):
        """Closing a phase half-way leaves the right index."""
        serial = start(timed(clock))
        phases = serial.phases()
        results, phase = 0, iter(())
        while results < stop_after:
            if next(phase, None) is None:
                phase = next(phases)
            else:
                results += 1
        phase.close()
        phases.close()

        assert serial._source.index == results
        assert serial.ended

    @pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 12, 100, 308, 309, 700])
    def test_each_next_pulls_and_runs_one_item_and_the_end_is_met_once(self, clock, watches, count):
        """The input is asked once a result, and once at its end, whichever phase that is in."""
        ran, items = [], Counting(range(count))
        move = timed(clock)
        results = chain.from_iterable(begin(lambda item: ran.append(move(item)), items).phases())

        for number in range(1, count + 1):
            next(results)

            assert items.asked == len(ran) == number
        assert next(results, "over") == "over"
        assert next(results, "over") == "over"
        assert items.asked == count + 1

    @pytest.mark.parametrize("at", PHASES.values(), ids=PHASES)
    def test_an_error_of_the_function_closes_it(self, start, clock, at):
        """Results before it come first; after it nothing comes and nothing is read."""
        error = KeyError("seven")

        def function(item):
            clock.now += SHORT
            if item == at:
                raise error
            return item

        serial, got = start(function), []
        results = chain.from_iterable(serial.phases())
        with pytest.raises(KeyError) as caught:
            got.extend(results)  # keeps what comes before an error

        assert caught.value is error
        assert got == list(range(at))
        assert list(results) == []
        assert serial.ended
        assert next(serial._source.iterator) in (at + 1, (at + 1,))

    @pytest.mark.parametrize("at", PHASES.values(), ids=PHASES)
    def test_stop_iteration_of_the_function_ends_it(self, start, clock, at):
        """The builtin's iteration ends there too, without an error."""

        def function(item):
            clock.now += SHORT
            if item == at:
                raise StopIteration
            return item

        serial = start(function)

        assert all_results(serial) == list(range(at))
        assert serial.ended

    @pytest.mark.parametrize("at", PHASES.values(), ids=PHASES)
    @pytest.mark.parametrize("attempt", [None, attempting], ids=["plainly", "attempting"])
    def test_an_error_of_the_input_comes_through(self, clock, watches, at, attempt):
        """The input's error comes after the results of the items before it, is not retried, and ends the work."""
        function = timed(clock)
        items = Counting([*range(at), OSError("the input broke"), "more"])
        serial = begin(function, items, attempt=attempt and attempt(function, retries=3, returns=True))
        results, got = chain.from_iterable(serial.phases()), []

        with pytest.raises(OSError, match="the input broke"):
            got.extend(results)  # keeps what comes before an error

        assert got == list(range(at))
        assert list(results) == []
        assert serial.ended
        assert items.asked == at + 1

    @pytest.mark.parametrize("grow_at", PHASES.values(), ids=PHASES)
    def test_a_list_that_grows_is_read_to_its_new_end(self, clock, watches, grow_at):
        """Items that the function appends are met, as by the builtin, and counted."""
        items = list(range(1000))

        def function(item):
            clock.now += SHORT
            if grow_at <= item < grow_at + 50:
                items.extend([5000, 6000])
            return item

        serial = begin(function, items)

        assert all_results(serial) == [*range(1000), *[5000, 6000] * 50]
        assert serial._source.index == serial.times.n == 1100

    @pytest.mark.parametrize("at", PHASES.values(), ids=PHASES)
    def test_failures_are_told_with_their_index(self, clock, watches, at):
        """Under `returns` the error stands in the item's place, in whichever phase."""
        failed = []

        def function(item):
            clock.now += SHORT
            return 1 // (item - at)

        attempt = attempting(function, returns=True, failures=failed)
        results = all_results(begin(function, range(1000), attempt=attempt))

        assert isinstance(results[at], ZeroDivisionError)
        assert [(failure.index, failure.tries) for failure in failed] == [(at, 1)]
        assert len(results) == 1000


class TestFirstItem:
    """One item with something beside it."""

    def test_it_runs_inside_the_block(self, clock):
        """The block is entered before the item and left after it, before the result is handed out."""
        said = []

        @contextlib.contextmanager
        def beside():
            said.append("enter")
            yield
            said.append("exit")

        serial = begin(said.append, ["first", "second"])

        results = serial.first_item(beside())
        next(results)

        assert said == ["enter", "first", "exit"]
        assert list(results) == []
        assert not serial.ended
        assert serial._source.index == 1

    @pytest.mark.parametrize(
        ("items", "function"), [([], abs), ([1], lambda _: next(iter(())))], ids=["empty", "StopIteration"]
    )
    def test_nothing_to_do_is_the_end(self, clock, items, function):
        """An empty input, or a function that ends the iteration, leaves nothing to do."""
        serial = begin(function, items)

        assert list(serial.first_item(contextlib.nullcontext())) == []
        assert serial.ended

    def test_an_error_is_the_end(self, clock):
        """An error of the first item ends the work."""
        serial = begin(int, ["x", "1"])

        with pytest.raises(ValueError, match="invalid literal"):
            next(serial.first_item(contextlib.nullcontext()))
        assert serial.ended

    def test_retries_count_here_too(self, clock):
        """An attempt runs it, and learns its index."""
        failed = []
        attempt = attempting(int, returns=True, failures=failed)
        serial = begin(int, ["x"], attempt=attempt)

        (result,) = serial.first_item(contextlib.nullcontext())

        assert isinstance(result, ValueError)
        assert [failure.index for failure in failed] == [0]


class Telling(list):
    """A flag that sets an event when it goes up."""

    def __init__(self):
        super().__init__()
        self.up = threading.Event()

    def append(self, value):
        super().append(value)
        self.up.set()


@pytest.fixture
def telling(monkeypatch):
    """Let every watch, with its real thread, have a flag that tells; give the list of watches."""
    made = []

    class TellingWatch(serial_module.Watch):
        def __init__(self):
            super().__init__()
            self.flag = Telling()
            made.append(self)

    monkeypatch.setattr(serial_module, "Watch", TellingWatch)
    return made


class TestWatching:
    """The thread that raises the flag."""

    def into_the_watch(self, clock, function=None, items=None):
        """Return results that stand in the watched phase, after 400 items."""
        serial = begin(function or timed(clock), range(100_000) if items is None else items)
        results = chain.from_iterable(serial.phases())
        assert list(itertools.islice(results, 400)) == list(range(400))
        return results

    def test_one_slow_item_is_noticed_at_once(self, clock, telling):
        """The flag goes up while a slow item runs, so the stretch ends with that item."""

        def function(item):
            clock.now += SHORT
            if item == 700:
                assert telling[-1].flag.up.wait(GUARD_SECONDS)
                clock.now += 1.0
            return item

        serial = begin(function, range(800))
        ran = [(phase.__name__, len(list(phase))) for phase in serial.phases()]

        assert ran[-1] == ("_long_items", 99)

    def test_the_thread_ends_with_the_input(self, clock, telling):
        """After the last result no thread is left."""
        assert all_results(begin(timed(clock), range(1000))) == list(range(1000))
        assert len(telling) == 1
        assert watch_threads() == []

    def test_the_thread_ends_with_an_error(self, clock, telling):
        """An error of the function's ends the thread once nothing more is asked for."""

        def function(item):
            clock.now += SHORT
            return 1 // (item - 600)

        with pytest.raises(ZeroDivisionError):
            all_results(begin(function, range(1000)))
        assert len(telling) == 1
        assert watch_threads() == []

    def test_the_thread_ends_when_the_results_are_dropped(self, clock, telling):
        """Results that nobody refers to any more take their thread along."""
        results = self.into_the_watch(clock)
        assert watch_threads()

        del results

        assert watch_threads() == []

    def test_the_thread_ends_when_items_turn_long(self, clock, telling):
        """While items are timed alone nobody watches."""

        def function(item):
            clock.now += SHORT
            if item == 500:
                assert telling[-1].flag.up.wait(GUARD_SECONDS)
            clock.now += item >= 500
            return item

        serial = begin(function, range(520))
        for phase in serial.phases():
            for result in phase:
                assert result < 501 or (phase.__name__, watch_threads()) == ("_long_items", [])

    def test_the_thread_ends_by_itself_while_the_user_is_busy(self, clock, telling):
        """A flag that nobody lowers is raised once, and then nobody watches until items run again."""
        results = self.into_the_watch(clock)
        (thread,) = watch_threads()

        thread.join(GUARD_SECONDS)

        assert not thread.is_alive()
        assert telling[-1].flag == [True]
        assert next(results) == 400
        assert list(itertools.islice(results, 100)) == list(range(401, 501))
        assert len(watch_threads()) == 1
        del results

    def test_a_thread_that_goes_is_followed_by_another(self, monkeypatch):
        """A flag lowered late is watched again, each time."""
        monkeypatch.setattr(watch_module, "STRETCH_SECONDS", 0.001)
        watch = serial_module.Watch()
        watch.flag = Telling()
        with watch:
            for _ in range(3):
                watch.flag.up.clear()
                watch.begin()
                thread = watch._thread

                assert watch.flag.up.wait(GUARD_SECONDS)
                thread.join(GUARD_SECONDS)
                assert not thread.is_alive()
        assert watch_threads() == []

    def test_a_lowered_flag_is_raised_by_the_same_thread(self, monkeypatch):
        """While stretches follow one another, one thread serves them all."""
        watch = serial_module.Watch()
        watch.flag = Telling()
        raised = []
        watch.flag.append = lambda value: (list.append(watch.flag, value), raised.append(threading.current_thread()))
        monkeypatch.setattr(watch_module, "STRETCH_SECONDS", 0.001)
        with watch:
            watch.begin()
            first = watch._thread
            while len(raised) < 3 and first.is_alive():
                with watch._turn:
                    watch.flag.clear()

            assert raised[:3] == [first] * len(raised[:3])

    def test_without_threads_the_results_still_come(self, clock, monkeypatch):
        """Where no thread can be started, the stretch runs to the input's end unwatched."""

        class NoThread:
            def __init__(self, **_):
                pass

            def start(self):
                raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading, "Thread", NoThread)

        assert all_results(begin(timed(clock), range(1000))) == list(range(1000))

    def test_the_watching_thread_may_be_the_one_to_clean_up(self):
        """A garbage collection in the thread itself does not make it wait for itself."""
        watch = serial_module.Watch()
        watch._thread = threading.current_thread()

        with watch:
            pass


class TestProperty:
    """Whatever items cost, raise, and whenever the work is left."""

    @pytest.mark.slow
    def test_serial_work_is_the_builtins(self):
        """Results, error and what is left of the input are those of the builtin."""
        hypothesis = pytest.importorskip("hypothesis")
        from hypothesis import strategies as st

        step = st.tuples(
            st.sampled_from([0.0, 1e-7, 1e-6, 3e-5, 1e-3, 10.0]),  # seconds in the function
            st.sampled_from([0.0] * 8 + [1e-3, 5.0]),  # seconds in the user's loop
            st.sampled_from([None] * 60 + [KeyError, StopIteration, OSError]),
            st.booleans(),  # whether the flag is up by then
        )

        @hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
        @hypothesis.given(
            block=st.lists(step, max_size=40),
            times=st.sampled_from([1, 3, 30]),
            answers=st.lists(st.sampled_from([False] * 6 + [True]), max_size=12),
            kind=st.sampled_from(sorted(KINDS)),
        )
        def check(block, times, answers, kind):
            steps = block * times
            clock, made = Clock(), []

            def function(index):
                seconds, _, error, flag = steps[index]
                clock.now += seconds
                if made and flag:
                    made[-1].up()
                if error is not None:
                    raise error
                return index * 3

            def watch():
                made.append(FakeWatch())
                return made[-1]

            script = iter(answers)
            items, star, attempt = KINDS[kind](len(steps))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(serial_module, "perf_counter", clock)
                patch.setattr(serial_module, "Watch", watch)
                source = Source((items,))
                spread = partial(apply_star, function) if star else function
                serial = Serial(
                    spread, source, leave=lambda _: next(script, False), attempt=attempt and attempt(function)
                )
                got = outcome(serial.phases(), steps, clock)
            if not serial.ended:
                assert source.index == len(got)
                got += outcome([map(spread, source.iterator)], steps, clock)

            assert got == outcome([map(function, range(len(steps)))], steps, clock)
            assert serial.seconds >= 0
            assert serial.times.n <= len(steps)

        def outcome(phases, steps, clock):
            got = []
            try:
                for result in chain.from_iterable(phases):
                    got.append(result)
                    clock.now += steps[result // 3][1]
            except (KeyError, OSError) as error:
                got.append(type(error))
            return got

        check()
