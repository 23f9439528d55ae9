"""What one process has learnt of this machine's costs is where the next one begins."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import workers

import amorsize
from amorsize import state
from amorsize.cache import costs, disk
from amorsize.cache.json_text import parsed
from amorsize.measure import machine

ROUTE = "processes/spawn"


@pytest.fixture
def system():
    """Give the facts of a machine."""
    from amorsize.cache.lookup import System

    return System(4, "fork", 10**9, "linux", "3.11.7")


def file():
    return Path(disk.folder()) / disk.COSTS


def start():
    return machine.seconds_first_start("spawn")


class TestTheNextProcess:
    """It starts from what was kept."""

    def test_it_begins_where_the_last_one_was(self, system):
        """With starts and bandwidths, each direction and way for itself."""
        machine.learn_start(ROUTE, 0.5)
        machine.learn_bandwidth(ROUTE, 10**7, 1.0, shared=True, out=True)
        learnt = machine.lasting_costs()
        costs.keep(system)
        state.reset_all()
        assert machine.lasting_costs() == {}
        costs.recall(system)

        assert machine.lasting_costs() == learnt

    def test_what_it_has_learnt_before_it_asked_stays(self, system):
        """It is newer."""
        machine.learn_start(ROUTE, 0.5)
        costs.keep(system)
        state.reset_all()
        machine.learn_start(ROUTE, 0.05)
        known = start()
        costs.recall(system)

        assert start() == known

    def test_it_reads_once(self, system):
        """A file that another process writes meanwhile is not read any more."""
        costs.recall(system)
        machine.learn_start(ROUTE, 0.5)
        costs.keep(system)
        machine._costs.forget()
        before = start()
        costs.recall(system)

        assert start() == before

    @pytest.mark.parametrize(
        "other",
        [{"physical_cores": 5}, {"platform": "darwin"}, {"python": "3.12.1"}],
        ids=lambda other: next(iter(other)),
    )
    def test_another_machine_begins_anew(self, system, other):
        """So does another interpreter; free memory and the configured start method do not matter."""
        machine.learn_start(ROUTE, 0.5)
        known = start()
        costs.keep(system)
        state.reset_all()
        before = start()
        costs.recall(system._replace(**other))
        assert start() == before
        state.reset_all()
        costs.recall(system._replace(available_memory=1, start_method="spawn"))

        assert start() == known

    @pytest.mark.parametrize("days", [8, -8])
    def test_what_is_old_is_not_used(self, system, days):
        """Nor what is dated far in the future."""
        machine.learn_start(ROUTE, 0.5)
        costs.keep(system, clock=lambda: 1e9)
        state.reset_all()
        before = start()
        costs.recall(system, clock=lambda: 1e9 + days * 24 * 3600)

        assert start() == before


class TestWriting:
    """A file is written for news only, and keeps what others have learnt."""

    def test_small_changes_are_not_written(self, system):
        """Nor anything within a second."""
        machine.learn_start(ROUTE, 0.5)
        costs.keep(system, clock=lambda: 1e9)
        file().unlink()
        machine.learn_start(ROUTE, start() * 1.1)
        costs.keep(system, clock=lambda: 1e9 + 10)
        assert not file().exists()
        machine.learn_start(ROUTE, start() * 9)
        costs.keep(system, clock=lambda: 1e9 + 0.5)
        assert not file().exists()
        costs.keep(system, clock=lambda: 1e9 + 10)

        assert file().exists()

    def test_what_others_have_written_stays(self, system):
        """Of other routes, and of other costs of the same route."""
        machine.learn_start(ROUTE, 0.5)
        machine.learn_chunk("pool/fork", 1.0)
        costs.keep(system)
        state.reset_all()
        machine.learn_chunk(ROUTE, 1.0)
        costs.keep(system)
        held = parsed(file().read_text())["costs"]

        assert {route: set(values) for route, values in held.items()} == {
            "pool/fork": {"seconds_per_chunk"},
            ROUTE: {"seconds_first_start", "seconds_per_chunk"},
        }

    def test_what_nobody_learns_anew_grows_old(self, system):
        """Though others learn something every other day."""
        machine.learn_start("processes/fork", 0.5)
        costs.keep(system, clock=lambda: 1e9)
        for days in range(2, 10, 2):
            state.reset_all()
            costs.recall(system, clock=lambda now=1e9 + days * 24 * 3600: now)
            machine.learn_start(ROUTE, 0.1 * days)
            costs.keep(system, clock=lambda now=1e9 + days * 24 * 3600: now)
        held = parsed(file().read_text())["costs"]

        assert held["processes/fork"] == {}
        assert held[ROUTE]["seconds_first_start"][1] == 1e9 + 8 * 24 * 3600

    def test_what_starting_a_fork_server_takes_is_not_kept(self, system):
        """Of all starts that any process has seen it would become the shortest."""
        machine.learn_start("processes/forkserver", 0.05)
        machine.learn_start("processes/forkserver", 0.05, served=True)

        assert [*machine.lasting_costs()["processes/forkserver"]] == ["seconds_first_start_served"]

    def test_the_number_of_routes_is_bounded(self, system):
        """The newest stay."""
        for number in range(40):
            machine.learn_chunk(f"executor/{number}", 1.0)
        costs.keep(system)
        held = parsed(file().read_text())["costs"]

        assert [*held] == [f"executor/{number}" for number in range(24, 40)]
        assert file().stat().st_size < 16_000 / 4  # a route may have eight costs

    def test_a_call_on_workers_writes_it(self):
        """One that may not use the cache does not."""
        options = {"backend": "processes", "n_jobs": 2, "start_method": "spawn"}
        list(amorsize.map(workers.square, range(50), use_cache=False, **options))
        assert not file().exists()
        amorsize.shutdown()
        list(amorsize.map(workers.square, range(50), **options))

        assert "seconds_first_start" in parsed(file().read_text())["costs"][ROUTE]

    def test_a_disk_that_is_full_costs_nothing_but_the_file(self, system, monkeypatch):
        """It is not an error."""

        def full(*_):
            raise OSError(errno.ENOSPC, "no space left")

        machine.learn_start(ROUTE, 0.5)
        monkeypatch.setattr(disk, "write", full)
        costs.keep(system)

        assert not file().exists()


class TestDamage:
    """Whatever the file holds, no cost is taken from what does not make sense."""

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff",
            b"[" * 10_000,
            b"[]",
            b'{"version": 1}',
            b'{"version": 2, "system": SYSTEM, "costs": {}}',
            b'{"version": 1, "system": SYSTEM, "costs": [1]}',
            b'{"version": 1, "system": SYSTEM, "costs": {"processes/spawn": 1}}',
            *[
                b'{"version": 1, "system": SYSTEM, "costs": {"processes/spawn": {"seconds_first_start": %s}}}' % pair
                for pair in (
                    *(b"0.5", b"null", b"[]", b"[0.5]", b'[0.5, "now"]', b"[0.5, 1e400]", b"[0.5, 1%s]" % (b"0" * 400)),
                    *(b"[%s, 1e9]" % value for value in (b"0.0", b"-1.0", b"true", b'"1"', b"NaN", b"1e400", b"1e12")),
                    *(b"[%s, 1e9]" % value for value in (b"1e-9", b"1%s" % (b"0" * 400))),
                )
            ],
        ],
    )
    def test_it_is_not_used(self, system, content):
        """It is a debug line."""
        facts = b'{"physical_cores": 4, "platform": "linux", "python": "3.11.7"}'
        disk.usable_folder(create=True)
        file().write_bytes(content.replace(b"SYSTEM", facts))
        before = start()
        costs.recall(system, clock=lambda: 1e9)

        assert start() == before

    def test_a_link_is_not_followed(self, system, tmp_path):
        """The folder may be private, but a link leads out of it."""
        machine.learn_start(ROUTE, 0.5)
        costs.keep(system)
        file().rename(tmp_path / "elsewhere")
        file().symlink_to(tmp_path / "elsewhere")
        state.reset_all()
        before = start()
        costs.recall(system)

        assert start() == before


def test_it_is_no_entry_and_goes_with_them(system):
    """`clear_cache` leaves nothing of the cache behind, files that a stopped process has not renamed included."""
    machine.learn_start(ROUTE, 0.5)
    costs.keep(system)
    aside = file().with_name(f"{disk.COSTS}.0123456789ab.tmp")
    aside.touch()
    os.utime(aside, (0, 0))
    assert amorsize.cache_stats().entries == 0
    assert amorsize.prune_expired_cache() == 0
    assert not aside.exists()
    assert amorsize.clear_cache() == 0

    assert list(file().parent.iterdir()) == []
    assert machine.lasting_costs() == {}
    machine.learn_start(ROUTE, 0.5)
    costs.keep(system)
    assert file().exists()
