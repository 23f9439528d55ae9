"""The width of waiting work, on simulated servers: it stays in bounds, comes near the best, and follows changes."""

from __future__ import annotations

import heapq
import random

import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given, settings
from hypothesis import strategies as st

from amorsize.plan.width import MOST_WIDTH, START_WIDTH, WidthControl

SERVICE_SECONDS = 0.02


class Queueing:
    """A server that serves so many items at once; others wait in line."""

    def __init__(self, at_once, jitter=0.0, seconds=SERVICE_SECONDS):
        self._jitter, self.seconds = jitter, seconds
        self.grow(at_once)

    def grow(self, at_once, now=0.0):
        self._free = [now] * at_once

    def latency(self, now, in_use, chance):
        begins = max(now, heapq.heappop(self._free))
        ends = begins + self.seconds * (1 + self._jitter * chance.uniform(-1, 1))
        heapq.heappush(self._free, ends)
        return ends - now


class Thrashing:
    """A server that becomes slower with each item beyond a number, by more than a queue would."""

    def __init__(self, at_once, jitter=0.0):
        self.at_once, self._jitter = at_once, jitter

    def latency(self, now, in_use, chance):
        share = max(1.0, in_use / self.at_once)
        return SERVICE_SECONDS * share * share * (1 + self._jitter * chance.uniform(-1, 1))


class Client:
    """Keeps as many items under way as the control says, or a fixed number."""

    def __init__(self, server, width=None, seed=0):
        self.server, self.control = server, width if isinstance(width, WidthControl) else None
        self._fixed = width
        self._chance = random.Random(seed)
        self._under_way, self._number = [], 0
        self.now, self.done, self.widths, self.rounds = 0.0, 0, [], 0

    def run(self, seconds):
        """Return how many items were done a second."""
        until, before = self.now + seconds, self.done
        while self.now < until:
            width = self.control.width if self.control else self._fixed
            while len(self._under_way) < width:
                latency = self.server.latency(self.now, len(self._under_way) + 1, self._chance)
                self._number += 1
                heapq.heappush(self._under_way, (self.now + latency, self._number, self.now))
            self.now, _, began = heapq.heappop(self._under_way)
            self.done += 1
            if self.control:
                self.control.add(self.now, self.now - began, in_use=len(self._under_way) + 1)
                self.widths.append(self.control.width)
        return (self.done - before) / seconds


def best_fixed(kind, at_once, jitter, most=MOST_WIDTH):
    widths = {1, most, min(most, at_once), *(2**power for power in range(6) if 2**power <= most)}
    return max(Client(kind(at_once, jitter), width).run(4.0) for width in widths)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Queueing, Thrashing]), st.integers(1, 64), st.floats(0, 0.3), st.integers(0, 1000))
@example(Thrashing, 16, 0.0, 0)
@example(Queueing, 1, 0.3, 3)
def test_it_comes_near_the_best_fixed_width(kind, at_once, jitter, seed):
    """Within 20% of it, whatever the server serves at once."""
    client = Client(kind(at_once, jitter), WidthControl(MOST_WIDTH, serial_seconds=SERVICE_SECONDS), seed)
    client.run(6.0)

    assert client.run(6.0) >= 0.8 * best_fixed(kind, at_once, jitter)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.one_of(st.none(), st.integers(1, 100)),
    st.lists(
        st.tuples(st.floats(1e-6, 1.0), st.integers(1, 64), st.booleans(), st.one_of(st.none(), st.integers(1, 40))),
        max_size=300,
    ),
)
def test_it_never_leaves_its_bounds(most, known, completions):
    """Whatever it is told, and however the bound changes meanwhile."""
    control = WidthControl(most, known=known)
    now = 0.0
    for seconds, in_use, overloaded, limit in completions:
        now += seconds
        if limit is not None:
            most = limit
            control.limit(limit)
        control.add(now, seconds, in_use=in_use, overloaded=overloaded)

        assert 1 <= control.width <= most
        assert control.found >= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.floats(0, 0.2), st.integers(0, 1000))
def test_it_comes_down_when_the_server_degrades_and_up_again(left, jitter, seed):
    """Within two rounds, a round being as many completions as were under way; and within 20% of the best again."""
    server = Queueing(32, jitter)
    client = Client(server, WidthControl(MOST_WIDTH, serial_seconds=SERVICE_SECONDS), seed)
    client.run(4.0)
    before = client.control.width
    assert before >= 16

    server.grow(left, client.now)
    count = client.done
    while client.control.width >= before and client.done - count < 4 * before:
        client.run(0.005)
    assert client.control.width < before
    client.run(4.0)
    assert client.run(4.0) >= 0.8 * left / SERVICE_SECONDS

    server.grow(32, client.now)
    client.run(12.0)
    assert client.run(4.0) >= 0.8 * 32 / SERVICE_SECONDS


def test_errors_of_overload_halve_it_at_once():
    """However little was seen before."""
    control = WidthControl(32, known=32)
    control.add(1.0, 0.1, in_use=32, overloaded=True)

    assert control.width == 16
    control.add(1.05, 0.1, in_use=32, overloaded=True)  # it began before
    assert control.width == 16
    control.add(1.2, 0.1, in_use=16, overloaded=True)
    assert control.width == 8


def test_work_that_holds_the_interpreter_is_found_out():
    """More threads make each item as much longer, so one is left."""
    control = WidthControl(32, serial_seconds=0.01)
    client = Client(Queueing(1, seconds=0.01), control)
    client.run(0.3)

    assert control.found == 1


class TakingTurns(Client):
    """Threads that compute: whoever has the interpreter runs several items before others have a turn."""

    def __init__(self, control, item_seconds, slice_seconds):
        super().__init__(None, control)
        self._item, self._slice = item_seconds, slice_seconds
        self._waiting = []  # when each began to wait for its turn

    def run(self, seconds):
        until, before = self.now + seconds, self.done
        while self.now < until:
            self._waiting += [self.now] * (self.control.width - len(self._waiting))
            began, ends = self._waiting.pop(0), self.now + self._slice
            while self.now < ends:
                self.now += self._item
                self.done += 1
                self.control.add(self.now, self.now - began, in_use=len(self._waiting) + 1)
                began = self.now
            if len(self._waiting) < self.control.width:
                self._waiting.append(began)
        return (self.done - before) / seconds


@settings(max_examples=40, deadline=None)
@given(st.floats(0.001, 0.005), st.floats(0.005, 0.008))
@example(0.0033, 0.005)
def test_items_shorter_than_a_turn_are_found_out(item_seconds, slice_seconds):
    """Most of them seem to take no longer beside others; within a second of them it is seen that they do."""
    control = WidthControl(32)
    client = TakingTurns(control, item_seconds, slice_seconds)
    client.run(0.8)

    assert control.found == 1


def test_what_others_leave_behind_does_not_count():
    """A try of one begins once nobody else is busy any more."""
    control = WidthControl(8, known=4)
    control.add(1.0, 0.1, in_use=4, overloaded=True)
    assert control.width == 2
    for turn in range(100):
        control.add(2.0 + turn, 0.5, in_use=3)
    assert control._n == 0


def test_it_is_found_out_too_where_nothing_ran_alone():
    """One is tried before some more or fewer is, where doubling has not helped."""
    control = WidthControl(32)
    client = Client(Queueing(1, seconds=0.01), control)
    client.run(1.5)

    assert control.found == 1


def test_a_width_that_nobody_uses_does_not_grow():
    """A user who is slow with results keeps few items under way."""
    control = WidthControl(32)
    for turn in range(500):
        control.add(turn * 0.02, 0.02, in_use=1)

    assert control.width == START_WIDTH


def test_what_was_found_is_where_the_next_call_begins():
    """A try that is under way does not count."""
    control = WidthControl(32, known=12)
    assert (control.width, control.found) == (12, 12)
    client = Client(Queueing(12), control)
    tried = 0
    for _ in range(400):
        client.run(0.01)
        tried += control.width != control.found
        assert 9 <= control.found <= 32

    assert tried


@pytest.mark.parametrize("most", [1, 2, 3])
def test_small_bounds_are_kept(most):
    """The least of them included."""
    control = WidthControl(most)
    Client(Queueing(64), control).run(1.0)

    assert control.found == most
