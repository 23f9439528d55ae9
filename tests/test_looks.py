"""When a call is asked where its rest should run: only if the answer could be yes, and not too often."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from amorsize.backends.rows import PROCESSES
from amorsize.call import headstart as headstart_module
from amorsize.call import looks as looks_module
from amorsize.call import preload
from amorsize.call import waiting as waiting_module
from amorsize.call.headstart import Headstart
from amorsize.call.looks import Looks
from amorsize.call.waiting import Waiting
from amorsize.measure import machine, platforms
from amorsize.measure.times import ItemTimes
from amorsize.options import DEFAULTS
from amorsize.plan.look import TRUST, can_gain, next_look
from amorsize.plan.waiting import is_worth_it

PRICE = 0.030


@pytest.fixture
def looks(monkeypatch):
    """Give the looks of a call in a process on two cores that has loaded nothing of what workers need."""
    monkeypatch.setattr(looks_module, "sys", SimpleNamespace(modules={}))
    monkeypatch.setattr(machine, "cores", lambda: 2)
    waits = SimpleNamespace(seems_due=lambda serial: serial.waits)
    return Looks(DEFAULTS, SimpleNamespace(least_seconds=lambda: PRICE), waits)


def ran(items, seconds_per_item, *, waits=False):
    """Return what is known of so much serial work."""
    seconds = items * seconds_per_item
    return SimpleNamespace(
        seconds=seconds, seconds_per_item=seconds_per_item, times=SimpleNamespace(n=items), waits=waits
    )


class TestTheFirst:
    """The first look of a process, which loads modules."""

    def test_is_not_worth_it_for_work_that_is_over_sooner(self, looks):
        """400 reads of 12 us, or of 50: whatever workers there were, they would begin when all is done."""
        for seconds in (12e-6, 50e-6):
            assert not any(looks.is_time(ran(n, seconds), 400 - n, known=False) for n in range(1, 400))

    def test_is_at_once_where_much_is_left(self, looks):
        """A hundred thousand of them are not over soon."""
        assert looks.is_time(ran(20, 12e-6), 100_000, known=False)

    def test_does_not_trust_one_short_item(self, looks):
        """It may have paid for something once."""
        assert not looks.is_time(ran(1, 400e-6), 399, known=False)
        assert looks.is_time(ran(4, 400e-6), 396, known=False)

    def test_is_as_soon_as_a_start_could_be_repaid_where_the_length_is_unknown(self, looks):
        """That is what `should_escalate` asks for at least."""
        assert not looks.is_time(ran(100, 100e-6), None, known=False)
        assert looks.is_time(ran(400, 100e-6), None, known=False)

    def test_is_at_once_for_work_that_waits(self, looks):
        """Threads cost little."""
        assert looks.is_time(ran(30, 100e-6, waits=True), 70, known=False)

    def test_is_at_once_where_modules_are_loaded(self, looks, monkeypatch):
        """Workers may run, and looks cost little."""
        monkeypatch.setattr(looks_module, "sys", SimpleNamespace(modules={PROCESSES.module: None}))

        assert looks.is_time(ran(4, 100e-6), 10, known=False)


def test_looks_take_a_small_share(looks):
    """After one that took 0.1 ms the next is due when 2.5 ms more have passed; the first of all does not count."""
    looks.took(ran(10, 100e-6), 0.002)
    assert looks.is_time(ran(11, 100e-6), None, known=True)
    looks.took(ran(11, 100e-6), 0.0001)

    assert not looks.is_time(ran(20, 100e-6), None, known=True)
    assert looks.is_time(ran(37, 100e-6), None, known=True)
    assert next_look(1.0, 0.0) == 1.0
    assert next_look(1.0, 0.1) < 1.01  # other programs held it up


@pytest.mark.parametrize("width", [1, 2, 32])
def test_what_must_be_spent_is_what_escalation_asks_for(width):
    """However long the rest is, or is taken to be."""
    share = 1.0 - 1.0 / width
    assert can_gain(PRICE, 100, None, PRICE, width) == (share >= TRUST)
    assert not can_gain(0.001, 100, None, PRICE, width)
    assert can_gain(0.001, 100, 1.0, PRICE, width) == (width > 1)


def test_short_waits_repay_threads_whose_modules_are_loaded():
    """Loading them takes what such waits would save."""
    assert is_worth_it(100e-6, 200)
    assert not is_worth_it(100e-6, 200, loaded=False)
    assert is_worth_it(0.020, 400, loaded=False)
    assert not is_worth_it(20e-6, 100_000)  # a thread takes as long


def test_items_one_by_one_add_up_as_blocks_of_one():
    """They have a way of their own, which is shorter."""
    alone, blocks = ItemTimes(), ItemTimes()
    for seconds in (3.0, 1.0, 4.0, 1.0, 5.0):
        alone.add(seconds)
        blocks.add_block(1, seconds)

    assert (alone.n, alone.max) == (blocks.n, blocks.max)
    assert alone.mean == pytest.approx(blocks.mean)
    assert alone.std == pytest.approx(blocks.std)


class TestAShortFirstItem:
    """The bare thread beside it."""

    @pytest.fixture
    def threads(self, monkeypatch):
        """Have threads that are started run only when the test runs them, as on a busy machine."""
        started = []
        monkeypatch.setattr(headstart_module, "start_new_thread", lambda run, _: started.append(run))
        return started

    def test_does_not_wait_for_a_thread_that_had_no_turn_yet(self, threads, monkeypatch):
        """It ends by itself later, and begins nothing."""
        monkeypatch.setattr(headstart_module, "perf_counter", lambda: 0.0)
        with Headstart(lambda: pytest.fail("it was asked"), lambda: pytest.fail("it was begun")) as headstart:
            pass
        assert headstart.pump is None
        assert len(preload.glancing) == 1

        assert not {"_begin", "_delay_seconds"} & vars(headstart).keys()  # by which the thread would keep the input
        threads[0]()
        assert not preload.glancing
        preload.wait_for_glances()


class TestBusyMachines:
    """Other programs have the processors, so that items which compute seem to wait."""

    @pytest.fixture
    def waiting(self, monkeypatch):
        self.ready = 1.0
        monkeypatch.setattr(platforms, "thread_ready_seconds", lambda _: self.ready)
        return Waiting(math.sqrt, DEFAULTS)

    def shown(self, waiting, items):
        """Say whether threads are due after so many items of 20 ms, which used a tenth of it."""
        seconds, busy = items * 0.020, items * 0.002
        serial = SimpleNamespace(
            times=SimpleNamespace(n=items),
            seconds=seconds,
            seconds_per_item=0.020,
            cpu_seconds=busy,
            note_cpu=lambda: None,
            busy_seconds=lambda: busy,
        )
        return waiting.to_threads(serial, 400) is not None

    def test_items_that_were_ready_to_run_do_not_wait(self, waiting):
        """However long they were kept."""
        waiting.note_begin()
        for items in range(1, 20):
            self.ready += 0.018
            assert not self.shown(waiting, items)

    def test_items_that_wait_go_to_threads_at_once(self, waiting):
        """Here and there they were kept, too, and for long before the call."""
        waiting.note_begin()
        self.ready += 0.002
        assert self.shown(waiting, 1)

    def test_they_go_where_nothing_tells(self, waiting):
        """On systems that do not count it."""
        self.ready = 0.0
        waiting.note_begin()
        assert self.shown(waiting, 1)

    def test_a_first_item_that_was_ready_to_run_does_not_wait(self, waiting, monkeypatch):
        """It is looked at by the thread beside it."""
        now = [0.0]
        monkeypatch.setattr(waiting_module, "perf_counter", lambda: now[0])
        monkeypatch.setattr(machine, "busy_seconds", lambda: 0.0)
        waiting.note_begin()
        waiting.note_first()
        now[0], self.ready = 0.2, 1.19
        assert waiting.beside_first() is None
        self.ready = 1.01
        assert waiting.beside_first() is not None
