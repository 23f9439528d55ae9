"""A chunk's items come to the same in both loops: the plain one, and the one that our workers have for speed."""

from __future__ import annotations

import pickle
import socket
import threading

import pool_workers
import pytest
import workers

import amorsize
from amorsize.child.main import ThreadLimit, _Worker
from amorsize.child.process_state import ProcessState
from amorsize.child.run_chunk import run_chunk
from amorsize.child.said import Relay
from amorsize.seeding import Seeded
from amorsize.transport import wire
from amorsize.transport.payload import payload_of
from amorsize.transport.remote import unpack_error
from amorsize.transport.serialize import dump_items, load_values
from amorsize.transport.slots import inherited_shared


class Fails:
    """Raises `error` at item 1."""

    def __init__(self, error):
        self.error = error

    def __call__(self, item):
        if item == 1:
            raise self.error
        return item


class Locks:
    """Its results cannot be pickled at item 1."""

    def __call__(self, item):
        return threading.Lock() if item == 1 else item


def draw(_):
    return amorsize.item_rng().random()


def plainly(function, items, *, stop_at_error, slice_seconds):
    """Return (results, errors by place) of the plain loop."""
    ran = run_chunk(function, b"".join(dump_items(items).pieces()), 10, slice_seconds, stop_at_error)
    return list(load_values(memoryview(ran.payload))), dict(ran.errors)


def as_our_workers_do(function, items, *, stop_at_error, slice_seconds):
    """Return the same of the loop of our workers."""
    ours, theirs = socket.socketpair()
    shared, _ = inherited_shared(lambda: None)
    try:
        relay = Relay(theirs, shared.slots)
        worker = _Worker(theirs, shared._replace(store=None), ProcessState(), ThreadLimit(), relay)
        payload = payload_of(function)
        worker._keep(payload.digest, b"".join(payload.parts()))
        head = wire.CHUNK_HEAD.pack(1, 10, len(items), slice_seconds, stop_at_error, False, 0, payload.digest)
        worker._run(memoryview(head + b"".join(dump_items(items).pieces())))
        theirs.close()
        inbox = wire.Inbox(ours)
        results, errors = [], {}
        while True:
            inbox.read()
            for _, body in inbox.messages():
                told = wire.ResultsHead._make(wire.RESULTS_HEAD.unpack_from(body))
                at = wire.RESULTS_HEAD.size
                if told.errors:
                    errors.update(pickle.loads(body[at : at + told.errors]))
                results += load_values(body[at + told.errors :])
                if told.last:
                    return results, errors
    finally:
        ours.close()
        theirs.close()
        shared.slots.release()
        shared.store.close()


@pytest.mark.parametrize("stop_at_error", [True, False])
@pytest.mark.parametrize(
    ("function", "items"),
    [
        (abs, [-1, -2, -3]),
        (abs, range(-3, 0)),
        (Fails(ValueError("no")), [0, 1, 2]),
        (Fails(SystemExit(3)), [0, 1, 2]),
        (Fails(StopIteration(4)), [0, 1, 2]),
        (Fails(KeyboardInterrupt()), [0, 1, 2]),
        (Fails(GeneratorExit()), [0, 1, 2]),
        (workers.first, [[0], [], [2]]),
        (workers.echo, [[0], pool_workers.Unrebuildable(), [2]]),
        (Locks(), [0, 1, 2]),
        (Seeded.of(draw, 7), [0, 1, 2]),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__) if callable(value) else None,
)
def test_both_loops_say_the_same(function, items, stop_at_error):
    """Of results, of what raised and how, and of where they stopped."""
    told = []
    for loop in (plainly, as_our_workers_do):
        results, errors = loop(function, items, stop_at_error=stop_at_error, slice_seconds=0.0)
        said = {place: repr(unpack_error(packed)) for place, packed in errors.items()}
        told.append((results, said))

    assert told[0] == told[1]
    assert len(told[0][0]) >= 2


@pytest.mark.parametrize("loop", [plainly, as_our_workers_do])
def test_a_time_slice_ends_both(loop):
    """After the item that was running; the others are not started."""
    results, errors = loop(workers.slowly, [0, 1, 2, 3], stop_at_error=True, slice_seconds=0.015)

    assert (results, errors) == ([0, 1], {})


def test_scalars_are_told_apart():
    """What cannot fail to be rebuilt is not looked at for failures."""
    assert dump_items([1, 2]).plain
    assert not dump_items([[1], 2]).plain
