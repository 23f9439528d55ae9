"""When a function may go to workers again: few calls are lost in any world, and the way back is found."""

from __future__ import annotations

from itertools import cycle, islice

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from amorsize.plan.trust import PATIENCE, Trust

SECONDS = st.floats(1e-5, 10.0)


class World:
    """Calls of one length, whose cost on workers is what the test says."""

    def __init__(self, in_caller: float) -> None:
        self.in_caller = in_caller
        self.trust = Trust()
        self.lost = 0

    def call(self, on_workers: float) -> bool:
        """Run one call wherever trust lets it; say whether it ran on workers."""
        if self.trust.allows(self.in_caller):
            self.trust = self.trust.after_workers(on_workers, self.in_caller)
            self.lost += on_workers > self.in_caller
            return True
        self.trust = self.trust.after_caller(self.in_caller / 2)
        return False


@given(SECONDS, st.lists(st.floats(1.001, 50.0), min_size=1, max_size=20))
def test_three_calls_are_lost_where_workers_lose(in_caller: float, factors: list[float]) -> None:
    """However much each of them would lose."""
    world = World(in_caller)
    for factor in islice(cycle(factors), 583):
        world.call(in_caller * factor)

    assert 1 <= world.lost <= 3


@given(SECONDS, st.lists(st.tuples(st.integers(1, 500), st.booleans()), min_size=1, max_size=8))
def test_three_calls_are_lost_for_each_change_of_the_world(in_caller: float, spells: list[tuple[int, bool]]) -> None:
    """A spell in which workers gain may be followed by one in which they lose, and so on."""
    world = World(in_caller)
    for length, gains in spells:
        for _ in range(length):
            world.call(in_caller * (0.6 if gains else 1.5))

    assert world.lost <= 3 * sum(not gains for _, gains in spells)


@given(SECONDS, st.integers(1, 100), st.floats(1.01, 4.0))
def test_the_way_back_is_found(in_caller: float, bad_calls: int, factor: float) -> None:
    """Once workers gain, the function goes there after a bounded number of calls, and then always."""
    world = World(in_caller)
    for _ in range(bad_calls):
        world.call(in_caller * factor)
    most = round(PATIENCE**world.trust.losses * max(1.0, 2 * (factor - 1))) + 1
    for _ in range(most + 1):
        if world.call(in_caller * 0.6):
            break
    else:
        raise AssertionError(most)

    assert all(world.call(in_caller * 0.6) for _ in range(20))


def test_a_longer_call_is_another_matter() -> None:
    """What a short call lost says nothing of one that is three times as long."""
    lost = Trust().after_workers(0.003, 0.001)

    assert not lost.allows(0.0019)
    assert lost.allows(0.003)


def test_one_gain_restores_trust() -> None:
    """The losses before it do not count any more."""
    trust = Trust().after_workers(0.003, 0.001).after_workers(0.003, 0.001)

    assert trust.losses == 2
    again = trust.after_workers(0.0005, 0.001)
    assert not again.losses
    assert again.allows(0.001)


@given(SECONDS, st.lists(st.floats(0.3, 0.9), min_size=2, max_size=10), st.floats(1.01, 1.08))
def test_losses_by_chance_are_forgiven_where_workers_gain(in_caller: float, gains: list[float], loss: float) -> None:
    """So a function whose calls gain on the whole, and lose now and then, always goes to workers."""
    world = World(in_caller)
    factors = [*gains, loss]

    assert all(world.call(in_caller * factor) for factor in islice(cycle(factors), 200))


def test_two_losses_one_after_the_other_are_not_forgiven() -> None:
    """What was gained long ago says little of the world as it is."""
    trust = Trust()
    for _ in range(1000):
        trust = trust.after_workers(0.001, 1.0)
    trust = trust.after_workers(0.0011, 0.001)
    assert trust.allows(0.001)
    trust = trust.after_workers(0.0011, 0.001)
    assert not trust.allows(0.001)
    assert trust.losses == 2
