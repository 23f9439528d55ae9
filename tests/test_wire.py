from __future__ import annotations

import socket

import pytest

from amorsize.transport import wire

SIZES = [0, 1, 8, 9, 10, 1000, 32_758, 32_759, 32_760, 32_768, 65_526, 65_527, 65_528, 65_535, 65_536, 65_537, 300_000]


@pytest.fixture
def ends():
    """Give both ends of a socket pair, neither blocking."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


def carry(outbox, inbox):
    """Move all that is in an outbox to an inbox, turn by turn; return the messages, bodies copied."""
    received = []
    while True:
        outbox.flush()
        if not inbox.read():
            return received
        received += [(kind, bytes(body)) for kind, body in inbox.messages()]


class TestMessages:
    """What is put into an outbox comes out of the inbox at the other end."""

    def test_any_size_arrives_whole_and_in_order(self, ends):
        """Bodies below, at and above the sizes of buffers arrive as they were put, one after another."""
        bodies = [bytes([position]) * size for position, size in enumerate(SIZES + SIZES[::-1])]
        outbox, inbox = wire.Outbox(ends[0]), wire.Inbox(ends[1])
        for position, body in enumerate(bodies):
            outbox.put(position % 6, [body[:10], body[10:]])

        assert carry(outbox, inbox) == [(position % 6, body) for position, body in enumerate(bodies)]
        assert not outbox

    def test_an_outbox_never_blocks(self, ends):
        """What the other side does not read waits in the outbox."""
        outbox = wire.Outbox(ends[0])

        outbox.put(wire.CHUNK, [bytes(5 << 20)])
        outbox.flush()

        assert outbox

    def test_small_messages_are_read_together(self, ends):
        """Many small messages cost one read."""
        outbox, inbox = wire.Outbox(ends[0]), wire.Inbox(ends[1])
        for _ in range(50):
            outbox.put(wire.CHUNK, [b"some", b"thing"])
        outbox.flush()

        assert inbox.read()
        assert [bytes(body) for _, body in inbox.messages()] == [b"something"] * 50

    def test_a_body_can_be_made_to_last(self, ends):
        """Whatever its size, it is the same after all later messages have been read."""
        outbox, inbox = wire.Outbox(ends[0]), wire.Inbox(ends[1])
        bodies = [bytes([position]) * size for position, size in enumerate(SIZES + SIZES[::-1], 1)]
        for body in bodies:
            outbox.put(wire.FUNCTION, [body])
        lasting = []
        while len(lasting) < len(bodies):
            outbox.flush()
            inbox.read()
            lasting += [wire.lasting(body) for _, body in inbox.messages()]

        assert [bytes(body) for body in lasting] == bodies

    def test_nothing_there_is_said(self, ends):
        """Reading when nothing has come says so, and gives no message."""
        inbox = wire.Inbox(ends[1])

        assert not inbox.read()
        assert list(inbox.messages()) == []

    @pytest.mark.parametrize("size", [5, 300_000])
    def test_a_message_byte_by_byte(self, ends, size):
        """A message is given out when its last byte is there, not before."""
        sender, receiver = socket.socketpair()
        with sender, receiver:
            receiver.setblocking(False)
            inbox = wire.Inbox(receiver)
            message = wire._HEAD.pack(wire.CHUNK, size) + bytes(size)
            for start, stop in ((0, 1), (1, 9), (9, 12), (12, len(message) - 1)):
                sent = start
                while sent < stop:
                    sent += sender.send(message[sent:stop][:50_000])
                    assert inbox.read()
                    assert list(inbox.messages()) == []
            sender.send(message[-1:])

            assert inbox.read()
            assert [(kind, len(body)) for kind, body in inbox.messages()] == [(wire.CHUNK, size)]

    def test_blocking_send_and_inbox_agree(self):
        """What the worker's side writes is what the caller's side reads."""
        sender, receiver = socket.socketpair()
        with sender, receiver:
            inbox = wire.Inbox(receiver)
            wire.send(sender, wire.RESULTS, [b"head", b"", b"x" * 70_000, b"tail"])
            wire.send(sender, wire.READY, [])
            received = []
            while len(received) < 2:
                assert inbox.read()
                received += [(kind, bytes(body)) for kind, body in inbox.messages()]

        assert received == [(wire.RESULTS, b"head" + b"x" * 70_000 + b"tail"), (wire.READY, b"")]


class TestEnds:
    """The other side goes away."""

    @pytest.mark.parametrize("size", [100, 300_000])
    def test_half_a_message_is_never_given_out(self, size):
        """A sender that closes in the middle of a message is an EOFError; whole messages before it arrive."""
        sender, receiver = socket.socketpair()
        with receiver:
            receiver.setblocking(False)
            inbox = wire.Inbox(receiver)
            with sender:
                wire.send(sender, wire.READY, [b"whole"])
                sender.sendall(wire._HEAD.pack(wire.RESULTS, size) + bytes(size // 3))
            received = []
            with pytest.raises(EOFError):  # noqa: PT012 - it comes after some messages
                while inbox.read():
                    received += [bytes(body) for _, body in inbox.messages()]

        assert received == [b"whole"]

    def test_writing_to_nobody_is_an_os_error(self, ends):
        """An outbox says when its worker is gone."""
        outbox = wire.Outbox(ends[0])
        ends[1].close()
        outbox.put(wire.CHUNK, [b"x"])

        with pytest.raises(OSError, match="pipe"):
            outbox.flush()


class TestKeptFunctions:
    """The account of which functions a worker has."""

    def test_bounded_in_number(self):
        """Beyond the most, the oldest goes."""
        kept = wire.KeptFunctions()
        dropped = [kept.add(bytes([number]), 1) for number in range(wire.KeptFunctions.MOST + 2)]

        assert dropped[-3:] == [[], [b"\0"], [b"\1"]]
        assert b"\0" not in kept
        assert b"\2" in kept

    def test_bounded_in_bytes(self):
        """Large functions drop as many old ones as they need, and one too large for all stays alone."""
        kept = wire.KeptFunctions()
        half = wire.KeptFunctions.MOST_BYTES // 2

        assert kept.add(b"a", half) == []
        assert kept.add(b"b", half) == []
        assert kept.add(b"c", 1) == [b"a"]
        assert kept.add(b"d", 3 * half) == [b"b", b"c"]
        assert b"d" in kept
