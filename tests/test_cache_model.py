from __future__ import annotations

import os
import shutil
import tempfile
from collections import OrderedDict
from typing import Any, NamedTuple
from unittest import mock

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import amorsize.cache.memory as memory_module
from amorsize.cache import disk, lookup
from amorsize.cache.entry import System
from amorsize.plan.buckets import SIZES, TIMES, clearly_outside, size_bucket, time_bucket
from amorsize.plan.profile import WorkProfile, is_one_of
from amorsize.state import reset_all

DAY = 24 * 3600.0
TTL = 7 * DAY
MAX_GROUPS = 6
ROOM = 4
WRITES_PER_PRUNING = 5


def one(x):
    return x + 1


def two(x):
    return x + 2


FUNCTIONS = (one, two)


class Record(NamedTuple):
    """One measurement, as the model keeps it."""

    timestamp: float
    profile: WorkProfile
    system: System


class Model:
    """The cache as two dictionaries: what this process knows, and what is on disk."""

    def __init__(self):
        self.known: OrderedDict[tuple[Any, str], dict[str, tuple[Record, Record]]] = OrderedDict()
        self.disk: dict[tuple[Any, str, str], Record] = {}
        self.writes = 0

    def group(self, func, sizes):
        """Return the records of a function by time bucket at these sizes, asking the disk where it was not asked."""
        found = {}
        for size in sizes:
            if (func, size) in self.known:
                self.known.move_to_end((func, size))
                found[size] = self.known[func, size]
        for size in sizes:
            if size not in found:
                on_disk = {time: self.disk[func, size, time] for time in TIMES if (func, size, time) in self.disk}
                found[size] = self.known[func, size] = {time: (record, record) for time, record in on_disk.items()}
                self.trim()
        together = [(time, *held) for group in found.values() for time, held in group.items()]
        return sorted(together, key=lambda item: -item[1].timestamp)

    def trim(self):
        while len(self.known) > MAX_GROUPS:
            self.known.popitem(last=False)

    def find(self, func, sizes, system, now, seconds):
        group = self.group(func, sizes)
        valid = [
            (time, record)
            for time, record, _ in group
            if now - record.timestamp <= TTL and record.system[:2] == system[:2]
        ]
        if not valid:
            return None
        time, record = valid[0]
        if seconds is not None and clearly_outside(time, seconds) and not is_one_of(seconds, record.profile):
            return next((record for time, record in valid if time == time_bucket(seconds)), None)
        return record

    def store(self, func, size, record):
        group = self.group(func, (size,))
        time = time_bucket(record.profile.seconds_per_item)
        written = next((old for bucket, _, old in group if bucket == time), None)
        if written is None or group[0][0] != time or self.is_news(record, written):
            self.disk[func, size, time] = written = record
            self.writes += 1
            if self.writes == WRITES_PER_PRUNING:
                self.writes = 0
                self.keep(record.timestamp, TTL)
                for key in sorted(self.disk, key=lambda key: self.disk[key].timestamp)[:-ROOM]:
                    del self.disk[key]
        self.known.setdefault((func, size), {})[time] = (record, written)
        self.known.move_to_end((func, size))
        self.trim()

    @staticmethod
    def is_news(record, written):
        old = written.profile.seconds_per_item
        memory = written.system.available_memory
        return (
            abs(record.profile.seconds_per_item - old) > 0.2 * old
            or record.timestamp - written.timestamp > DAY
            or record.system[:2] != written.system[:2]
            or abs(record.system.available_memory - memory) > 0.2 * memory
        )

    def keep(self, now, ttl):
        """Drop from disk what is older than `ttl`, and return the keys."""
        gone = {key for key, record in self.disk.items() if now - record.timestamp > ttl}
        for key in gone:
            del self.disk[key]
        return gone

    def prune(self, now, ttl):
        gone = self.keep(now, ttl)
        dropped = set(gone)
        for (func, size), group in self.known.items():
            for time in list(group):
                if (func, size, time) in gone or now - group[time][0].timestamp > ttl:
                    del group[time]
                    dropped.add((func, size, time))
        return len(dropped)

    def clear(self):
        count = len({*self.disk, *((*place, time) for place, group in self.known.items() for time in group)})
        self.disk.clear()
        for group in self.known.values():
            group.clear()
        self.writes = 0
        return count


functions = st.sampled_from(FUNCTIONS)
lengths = st.sampled_from([0, 10, 100, 150, 5_000])
seconds = st.sampled_from([5e-5, 9e-5, 3e-4, 3.3e-4, 9e-4, 2.1e-3, 5e-2, 3.0])


class CacheMachine(RuleBasedStateMachine):
    """Drives the cache and the model together."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.patches = [
            mock.patch.dict(os.environ, AMORSIZE_CACHE_DIR=self.folder),
            mock.patch.object(memory_module, "_MAX_GROUPS", MAX_GROUPS),
            mock.patch.object(disk, "ROOM_ENTRIES", ROOM),
            mock.patch.object(disk, "_WRITES_PER_PRUNING", WRITES_PER_PRUNING),
        ]
        for patch in self.patches:
            patch.start()
        reset_all()
        self.model = Model()
        self.now = 1_000_000_000.0
        self.system = System(4, "fork", 10**9, "linux", "3.11.7")

    def teardown(self):
        for patch in reversed(self.patches):
            patch.stop()
        reset_all()
        shutil.rmtree(self.folder)

    def tick(self):
        self.now += 1
        return self.now

    @rule(func=functions, n_items=lengths, seconds_per_item=seconds)
    def store(self, func, n_items, seconds_per_item):
        now = self.tick()
        profile = WorkProfile(10, seconds_per_item)
        lookup.store(func, n_items, profile, None, self.system, clock=lambda: now)
        self.model.store(func, size_bucket(n_items), Record(now, profile, self.system))

    @rule(func=functions, n_items=lengths | st.none(), seconds_per_item=seconds | st.none())
    def look_up(self, func, n_items, seconds_per_item):
        now = self.tick()
        found = lookup.find(func, n_items, self.system, seconds_per_item=seconds_per_item, clock=lambda: now)
        sizes = SIZES if n_items is None else (size_bucket(n_items),)
        expected = self.model.find(func, sizes, self.system, now, seconds_per_item)
        assert found.profile == (expected.profile if expected else None)
        if expected:
            memory = expected.system.available_memory
            assert found.plan_stale == (abs(self.system.available_memory - memory) > 0.2 * memory)

    @rule(days=st.sampled_from([0.5, 1.5, 5, 8]))
    def age(self, days):
        self.now += days * DAY

    @rule(cores=st.sampled_from([4, 4, 8]), method=st.sampled_from(["fork", "spawn"]), memory=st.integers(1, 3))
    def change_machine(self, cores, method, memory):
        self.system = System(cores, method, memory * 10**9, "linux", "3.11.7")

    @rule(days=st.sampled_from([0, 1, 7]))
    def prune(self, days):
        now = self.tick()
        assert lookup.prune_expired_cache(days * DAY, clock=lambda: now) == self.model.prune(now, days * DAY)

    @rule()
    def clear(self):
        assert lookup.clear_cache() == self.model.clear()

    @rule()
    def start_a_new_process(self):
        reset_all()
        self.model.known.clear()

    @invariant()
    def disk_agrees(self):
        assert lookup.cache_stats().entries == len(self.model.disk)


CacheMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
class TestCacheAgainstModel(CacheMachine.TestCase):
    """Any sequence of storing, looking up, ageing, pruning, clearing and restarting gives what the model gives."""
