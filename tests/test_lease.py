"""The lease: what it sends ahead and takes back, whom it believes, and how it ends."""

from __future__ import annotations

import os
import socket
import threading
import time
from types import SimpleNamespace

import pool_workers
import psutil
import pytest
import workers

import amorsize
from amorsize.backends.base import Unsendable
from amorsize.backends.events import Chunk, Lost, Results, Returned
from amorsize.backends.processes import idle as warm
from amorsize.backends.processes import lease as pool
from amorsize.backends.processes.handle import Worker, all_workers
from amorsize.backends.registry import Job
from amorsize.measure import machine
from amorsize.transport import slots, wire
from amorsize.transport.memory import shares_memory
from amorsize.transport.serialize import Outgoing


@pytest.fixture
def lease(one_method):
    """Give a function that makes a lease on some workers for a function."""
    leases = []

    def make(function, n_jobs=2, **options):
        made = pool.open_backend(Job(function, Outgoing(), n_jobs, one_method["start_method"])._replace(**options))
        leases.append(made)
        return made

    yield make
    for made in leases:
        made.close(hurry=True)


def results(lease):
    """Return all results of a lease by position, handing what comes back to it again."""
    found = {}
    while lease.busy():
        for event in lease.wait():
            if isinstance(event, Returned):
                lease.submit(event.chunk, 0.0)
                continue
            assert isinstance(event, Results), event
            found.update(enumerate(event.values, event.first))
        lease.flush()
    return found


def ready(lease):
    """Return the lease when all its workers can run items."""
    while not all(worker.ready and worker.takes_chunks for worker in lease._workers):
        assert lease.wait(0.01) == []
    return lease


def wait_until_idle_workers_have_started():
    end = time.monotonic() + pool_workers.GUARD_SECONDS
    while not all(worker.has_started() for worker in warm.idle_workers()):
        assert time.monotonic() < end
        time.sleep(0.002)  # how often they are looked at


class TestAhead:
    """Short chunks are sent ahead."""

    @pytest.mark.parametrize(
        ("chunk_seconds", "depth"), [(None, 2), (0.0, 64), (20e-6, 50), (100e-6, 10), (0.01, 2), (0.1, 1)]
    )
    def test_how_many_by_their_length(self, lease, chunk_seconds, depth):
        """The shorter the chunks, the more of them; of long ones, one."""
        one = lease(abs, n_jobs=1)
        submitted = 0
        while one.room(chunk_seconds):
            one.submit(Chunk(submitted, [-submitted]), 0.0)
            submitted += 1

        assert submitted == depth

    def test_nothing_waits_behind_a_long_item(self, processes, tmp_path):
        """Chunks that waited behind an item that turns out long are run by the other worker meanwhile."""
        waiting = pool_workers.WaitsForTheRest(tmp_path, 60)

        assert list(amorsize.map(waiting, range(60), chunksize=1, **processes)) == list(range(60))
        assert sorted(map(int, pool_workers.notes(tmp_path))) == list(range(1, 60))

    def test_nothing_waits_for_a_worker_that_is_starting(self, one_method, tmp_path):
        """A call whose first worker does all before the second one has started does not wait for that."""
        initializer = pool_workers.SlowOnlyIn(tmp_path)

        assert list(amorsize.map(abs, range(4), initializer=initializer, **one_method)) == list(range(4))
        pool_workers.note(tmp_path, "over")

    def test_what_was_taken_back_is_ignored_later(self, lease, tmp_path):
        """The worker's word on chunks that were taken back, late, is not taken for results; none runs twice."""
        waiting = pool_workers.WaitsForTheRest(tmp_path, 40)
        one = lease(waiting)
        for number in range(40):
            one.submit(Chunk(number, [number]), 0.0)

        assert results(one) == {number: number for number in range(40)}
        one.close()
        assert len(pool_workers.notes(tmp_path)) == 39
        again = amorsize.map(abs, range(5), backend="processes", start_method=one._kind.start_method)
        assert set(again) == set(range(5))

    def test_an_idle_worker_gets_the_next_chunk(self, lease):
        """Chunks are spread, the least laden worker first."""
        one = ready(lease(abs))
        for number in range(6):
            one.submit(Chunk(number, [number]), 0.0)

        assert [len(worker.flights) for worker in one._workers] == [3, 3]
        assert len(results(one)) == 6

    def test_a_worker_that_has_yet_to_confirm_what_was_taken_back_has_room(self, lease):
        """Otherwise the next call would have no room and nothing to wait for, and end without its results."""
        one = ready(lease(abs, n_jobs=1))
        (worker,) = one._workers
        process = psutil.Process(worker.process.pid)
        process.suspend()
        for number in range(8):
            one.submit(Chunk(number, [number]), 0.0)
        one.flush()
        worker.ask_back()
        worker.take_back()
        one.close()
        try:
            again = lease(abs, n_jobs=1)
            assert again._workers == [worker]
            assert again.room(None) > 0
            again.close()
        finally:
            process.resume()

        named = {"backend": "processes", "start_method": one._kind.start_method}
        assert list(amorsize.map(abs, range(8), n_jobs=1, **named)) == list(range(8))


class TestErrors:
    """What cannot be sent, and who may use a lease."""

    def test_an_item_that_cannot_be_sent(self, lease):
        """It is named, and nothing of its chunk is under way."""
        one = lease(abs)

        with pytest.raises(Unsendable) as caught:
            one.submit(Chunk(10, [1, threading.Lock()]), 0.0)

        assert caught.value.index == 11
        assert not one.busy()

    def test_a_function_that_cannot_be_sent_takes_no_worker(self, lease):
        """The error is the lease's own, before any worker is started."""
        before = len(all_workers())

        with pytest.raises(amorsize.SerializationError):
            lease(threading.Lock().acquire)

        assert len(all_workers()) == before

    def test_a_worker_that_left_by_itself_is_replaced(self, lease):
        """A chunk given to a worker that is gone goes to another one."""
        one = lease(workers.process_id, n_jobs=1)
        (gone,) = one._workers
        gone.process.kill()
        gone.process.join()

        one.submit(Chunk(0, [0]), 0.0)
        events = []
        while one.busy():
            for event in one.wait():
                events.append(event)
                if isinstance(event, Lost):
                    one.submit(event.rest, 0.0)
                elif isinstance(event, Returned):  # it was seen to be gone when the chunk was given to it
                    one.submit(event.chunk, 0.0)

        assert type(events[-1]) is Results
        assert gone.sock.fileno() == -1

    def test_one_death_is_one_loss(self, lease, tmp_path):
        """What waited behind the item of a dead worker is not lost, and comes back untouched."""
        one = lease(pool_workers.Always(0, pool_workers.die), n_jobs=1)
        for number in range(5):
            one.submit(Chunk(number, [number]), 0.0)
        one.flush()
        events = []
        while one.busy():
            events += one.wait()

        assert [type(event) for event in events] == [Lost] + [Returned] * 4
        assert events[0].running == Chunk(0, [0])
        assert [event.chunk for event in events[1:]] == [Chunk(number, [number]) for number in range(1, 5)]

    def test_widening_starts_a_worker_when_there_is_work(self, lease):
        """More workers are allowed at once, and started with the next chunk that finds none idle."""
        one = lease(abs, n_jobs=1)
        one.submit(Chunk(0, [0]), 0.0)
        one.resize(2)
        assert len(one._workers) == 1

        one.submit(Chunk(1, [1]), 0.0)

        assert len(one._workers) == 2
        assert results(one) == {0: 0, 1: 1}


class TestLateStarts:
    """Workers that a call has ordered start after it is over."""

    def test_one_that_got_ready_meanwhile_is_given_items(self, lease, tmp_path):
        """Also if the next call begins without it, and takes it later."""
        lease(abs).close()
        wait_until_idle_workers_have_started()
        one = lease(pool_workers.WaitsForTheRest(tmp_path, 2), n_jobs=1)
        one.resize(2)
        for number in range(2):
            one.submit(Chunk(number, [number]), 0.0)

        assert results(one) == {0: 0, 1: 1}

    def test_what_is_left_of_a_start_is_known(self, lease, one_method):
        """One that has said that it is ready is not starting any more."""
        lease(abs).close()
        wait_until_idle_workers_have_started()
        began = time.perf_counter()

        assert warm.warm_since(one_method["start_method"], None, ()) == (2, None)
        assert lease(abs).start.ordered_at >= began


    @pytest.mark.parametrize(("kind", "spoken"), [(wire.READY, True), (wire.REFUSED, True), (wire.SAID, False)])
    def test_what_an_initializer_prints_is_no_sign_that_it_is_over(self, kind, spoken):
        """Any other message is one, and so is the end of the worker."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        worker = SimpleNamespace(sock=ours, ready=False)
        with ours, theirs:
            assert not Worker.has_started(worker)
            wire.send(theirs, kind, [b"text"])
            assert Worker.has_started(worker) is spoken
            ours.recv(100)
            theirs.close()
            assert Worker.has_started(worker)
        assert Worker.has_started(worker)


class TestEnds:
    """A lease is closed."""

    def test_a_long_item_costs_its_worker(self, lease, tmp_path):
        """A worker that does not come back to be told is ended; the idle one is kept."""
        one = ready(lease(pool_workers.Long(tmp_path)))
        one.submit(Chunk(0, [0]), 0.0)
        pool_workers.wait_for_notes(tmp_path, 1)
        began = time.monotonic()

        one.close()

        assert time.monotonic() - began < pool_workers.GUARD_SECONDS
        assert warm.warm_count() == 1

    def test_half_a_message_out_is_not_kept(self, lease, tmp_path):
        """A worker that has read only half of what was sent is not given to the next call."""
        one = ready(lease(pool_workers.Long(tmp_path), n_jobs=1))
        one._workers[0].store = None
        one.submit(Chunk(0, [0]), 0.0)
        one.submit(Chunk(1, [bytes(20 << 20)]), 0.0)
        one.flush()
        assert one._workers[0].outbox

        one.close()

        assert warm.warm_count() == 0

    def test_closing_twice(self, lease):
        """The second time nothing happens."""
        one = lease(abs)
        one.close()
        one.close()
        one.close(hurry=True)

        assert warm.warm_count() == 2

    def test_an_interrupt_in_the_middle_of_a_message(self, lease, monkeypatch):
        """A worker that was being written to or read from when the interrupt came is ended, whatever it was doing."""
        one = ready(lease(abs))

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(one._workers[0].outbox, "put", interrupted)
            with pytest.raises(KeyboardInterrupt):
                one.submit(Chunk(0, [0]), 0.0)
        one.close(hurry=True)

        assert warm.warm_count() == 1

    def test_a_forked_copy_is_refused(self, lease, monkeypatch):
        """In another process than the one that leased them, the workers are not touched."""
        one = lease(abs)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(amorsize.AmorsizeError, match="forked"):
                one.room(None)
            with pytest.raises(amorsize.AmorsizeError, match="forked"):
                one.wait(0)


class TestInitializer:
    """What runs once in each worker."""

    def test_once_in_each_worker_before_its_items(self, processes, tmp_path):
        """However many calls and items, each worker is initialized once, first."""
        options = {"initializer": pool_workers.set_state, "initargs": (tmp_path, "model"), "chunksize": 1, **processes}

        for _ in range(3):
            found = list(amorsize.map(pool_workers.get_state, range(10), **options))

            assert {tuple(state) for state, _ in found} == {("model",)}
        assert len(pool_workers.notes(tmp_path)) == len(set(pool_workers.notes(tmp_path))) <= 2

    def test_again_in_a_replacement(self, processes, tmp_path):
        """A worker that takes a dead one's place is initialized too."""
        options = {"initializer": pool_workers.set_state, "initargs": (tmp_path, "model"), **processes}
        (tmp_path / "once").mkdir()

        killing = pool_workers.Once(tmp_path / "once", 3, pool_workers.die)
        list(amorsize.map(killing, range(20), chunksize=1, retries=1, **options))

        assert {tuple(state) for state, _ in amorsize.map(pool_workers.get_state, range(10), **options)} == {("model",)}
        assert len(pool_workers.notes(tmp_path)) >= 2

    @pytest.mark.parametrize("failing", [pool_workers.fail_to_initialize, pool_workers.die_initializing])
    def test_a_failing_one_is_an_error_that_names_it(self, processes, tmp_path, failing):
        """It is raised by the call, with the cause, and few workers try."""
        with pytest.raises(amorsize.InitializerError, match=failing.__name__) as caught:
            list(amorsize.map(abs, range(100), initializer=failing, initargs=(tmp_path,), chunksize=1, **processes))

        assert len(pool_workers.notes(tmp_path)) <= 6
        assert failing is pool_workers.die_initializing or isinstance(caught.value.__cause__, LookupError)

    def test_one_that_cannot_be_rebuilt(self, one_method):
        """An initializer that a fresh process cannot rebuild is the same error."""
        with pytest.raises(amorsize.InitializerError) as caught:
            list(amorsize.map(abs, range(4), initializer=pool_workers.Unrebuildable(), **one_method))

        assert isinstance(caught.value.__cause__, LookupError)


class TestLearning:
    """What real chunks and bytes cost is taken in."""

    def test_a_chunks_cost(self, one_method):
        """Many small chunks tell what one costs; few, or large ones, do not."""
        before = machine.seconds_per_chunk(machine.route_of(one_method["start_method"]))
        list(amorsize.map(abs, range(20), chunksize=1, **one_method))
        list(amorsize.map(abs, range(6400), chunksize=100, **one_method))
        assert machine.seconds_per_chunk(machine.route_of(one_method["start_method"])) == before

        list(amorsize.map(abs, range(400), chunksize=1, **one_method))
        assert machine.seconds_per_chunk(machine.route_of(one_method["start_method"])) != before

    @pytest.mark.parametrize("shared", [False, True])
    def test_bandwidth(self, one_method, monkeypatch, shared):
        """Large data tell how fast bytes cross, in messages (unless the caller was away) and in shared memory."""
        if not shared:
            monkeypatch.setattr(slots, "create_file", lambda: None)
        elif not shares_memory():
            pytest.skip("there is no shared memory")

        def learnt():
            profile = machine.machine_profile(one_method["start_method"])
            return [*profile.pipe, *(profile.shared or ())]

        before = learnt()
        list(amorsize.map(abs, range(400), **one_method))
        assert learnt() == before

        list(amorsize.map(bytearray, [bytes(3_000_000)] * 4, chunksize=1, **one_method))
        changed = [now != then for now, then in zip(learnt(), before, strict=True)]
        assert changed == [not shared, not shared, shared, False]

    def test_bandwidth_of_arrays_on_their_way_back(self, one_method):
        """They are copied out of shared memory."""
        zeros = pytest.importorskip("numpy").zeros
        if not shares_memory():
            pytest.skip("there is no shared memory")
        before = machine.machine_profile(one_method["start_method"]).shared
        list(amorsize.map(zeros, [500_000] * 4, chunksize=1, **one_method))
        after = machine.machine_profile(one_method["start_method"]).shared

        assert before.bytes_per_second_in == after.bytes_per_second_in
        assert before.bytes_per_second_out != after.bytes_per_second_out
