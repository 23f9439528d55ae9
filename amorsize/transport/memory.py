"""Memory that the caller and one worker share, through which large data cross at the price of one copy.

Both have the same nameless file in memory. Its first page holds the slots (`slots`) and, for each region, a byte that
says who has it. The rest is cut into *regions*, in two lanes: in one the caller writes and the worker reads, in the
other it is the other way round. The writer makes regions, copies data into one that is free, and tells the reader by
a message which one it is; the reader frees it when nothing refers to it any more. So no lock is needed, nothing stands
in a folder, and nothing is left, however either side ends.

The reader of items lends its regions out: arrays are built in them without a copy. Whether one is still in use is told
by the reference count of the region's mapping, on which every view and array depends. A region that an item has kept
is not written again before it is given up. The mapping is private, so that what an item writes there is seen by nobody,
and by no process that it forks. Where reference counts are not exact, all is copied.

Pages are reserved before they are written, because writing to memory that is not there ends the process.
"""

from __future__ import annotations

import mmap
import os
import sys
from _struct import Struct
from sys import getrefcount
from time import perf_counter

from ..errors import let_signals_through
from ..lean import NamedTuple
from ..log import debug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Buffer = bytes | bytearray | memoryview

__all__ = ["LEAST_SHARED_BYTES", "PLACE", "Crossed", "Place", "Store", "aligned", "create_file", "lends"]
__all__ += ["shares_memory"]

# Smaller data stay in the message: below this, the system calls of a message cost less than a region's bookkeeping
# (benchmarks/transport.py).
LEAST_SHARED_BYTES = 1 << 16
# Where buffers begin in a region, as a multiple. It is a cache line, and enough for every data type.
ALIGNMENT = 64
HEADER_BYTES = mmap.ALLOCATIONGRANULARITY
# The first bytes of the header are the slots; a lane's states follow.
_STATES_AT = (512, 2304)
_MOST_REGIONS = 1700 if sys.version_info >= (3, 13) else 16  # before, each mapping holds a descriptor
# Memory is reserved in steps of so many bytes, because a signal makes the system begin a step anew.
_RESERVED_BYTES = 4 << 20
# A lane's regions never overlap in the file, which takes memory only for what is reserved in it.
_LANE_BYTES = 1 << 44
_FREE, _USED = 0, 1
# A worker that waits for a call keeps at most so much free memory. A smaller value means that pages are reserved again
# at the next call; a larger one means that memory is held for nobody.
_IDLE_BYTES = 64 << 20
# A new region is made only if this many times its size is free.
_HEADROOM = 2.0
PLACE = Struct("<IQQQ")


class Place(NamedTuple):
    """Where a region is.

    Attributes:
        number: of the region in its lane.
        offset: of its first byte in the file.
        capacity: its length in bytes.
        nbytes: how many of them were written.
    """

    number: int
    offset: int
    capacity: int
    nbytes: int


class Crossed(NamedTuple):
    """How many bytes have crossed, and how many seconds that took."""

    nbytes: int = 0
    seconds: float = 0.0

    def more(self, nbytes: int, seconds: float) -> Crossed:
        return Crossed(self.nbytes + nbytes, self.seconds + seconds)


class Region:
    """A mapped region; in a `private` mapping nobody else sees what is written."""

    __slots__ = ("place", "shared")

    def __init__(self, descriptor: int, place: Place, *, private: bool = False) -> None:
        self.place = place
        self.shared = _map(descriptor, place.capacity, place.offset, private=private)

    def is_referred_to(self) -> bool:
        """Say whether any view or array of this memory is left in this process."""
        return getrefcount(self.shared) > _UNREFERRED

    def detach(self) -> None:
        """Give this process pages of its own for all that a private mapping shows, whatever becomes of the file."""
        with memoryview(self.shared) as view:
            view[:: mmap.PAGESIZE] = bytes(view[:: mmap.PAGESIZE])


def _map(descriptor: int, nbytes: int, offset: int, *, private: bool = False) -> mmap.mmap:
    access = mmap.ACCESS_COPY if private else mmap.ACCESS_WRITE
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, nbytes, offset=offset, access=access, trackfd=False)
    return mmap.mmap(descriptor, nbytes, offset=offset, access=access)


def _count_unreferred() -> int:
    region = Region.__new__(Region)
    region.shared = mmap.mmap(-1, mmap.PAGESIZE)
    return getrefcount(region.shared)


# What `getrefcount` says of a mapping that nothing else refers to; newer interpreters may count otherwise.
_UNREFERRED = _count_unreferred()
# Whether reference counts tell the truth: another implementation, or threads without a lock, may count later.
_COUNTS = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


def aligned(nbytes: int) -> int:
    """Return the next multiple of `ALIGNMENT`.

    >>> aligned(1), aligned(64)
    (64, 64)
    """
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def shares_memory() -> bool:
    """Say whether this system has nameless memory that two processes can share, and that can be reserved."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


def create_file() -> int | None:
    """Return the descriptor of a file for a `Store`; None where the system has none.

    Raises:
        OSError: the system refuses it.
    """
    if sys.platform != "linux" or not shares_memory():
        return None
    descriptor = os.memfd_create("amorsize")
    try:
        os.ftruncate(descriptor, HEADER_BYTES + 2 * _LANE_BYTES)
        os.posix_fallocate(descriptor, 0, HEADER_BYTES)
    except BaseException:  # a signal handler may raise anything
        os.close(descriptor)
        raise
    return descriptor


class Store:
    """One side's view of a file that the caller shares with one worker.

    Args:
        descriptor: of the file, which this then owns.
        is_caller: whether this is the caller's side.
        free_memory: returns how many bytes of memory are free; None if that is unknown.

    Attributes:
        descriptor: of the file; -1 once this is closed.
        bytes_put: how many bytes this side has written.
    """

    def __init__(self, descriptor: int, *, is_caller: bool, free_memory: Callable[[], int | None]) -> None:
        self.descriptor = descriptor
        self._lends_privately = not is_caller
        self.header = _map(descriptor, HEADER_BYTES, 0)
        self._states = memoryview(self.header)
        self._out, self._in = _STATES_AT if is_caller else _STATES_AT[::-1]
        self._next_offset = HEADER_BYTES + (0 if is_caller else _LANE_BYTES)
        self._end = self._next_offset + _LANE_BYTES - HEADER_BYTES
        self._free_memory = free_memory
        self._regions: list[Region | None] = []  # those that are written here
        self._read: dict[int, Region] = {}
        self._lent: list[Region] = []
        self.bytes_put = 0
        # Since `crossed_lately` was last asked: what was written to memory that was there, and to new memory.
        self._put = self._put_first = self._copied_out = Crossed()

    # What this side writes.

    def put(self, buffers: Sequence[Buffer], offsets: Sequence[int], nbytes: int) -> Place | None:
        """Copy buffers into a free region; return None, with nothing done, if no memory is to be had.

        Args:
            buffers: contiguous, of single bytes.
            offsets: where each is to begin.
            nbytes: how long it all is.
        """
        began = perf_counter()
        had = self._next_offset
        region = self._free_region(nbytes)
        if region is None:
            return None
        with memoryview(region.shared) as view:
            for buffer, at in zip(buffers, offsets, strict=True):
                view[at : at + len(buffer)] = buffer
        self.bytes_put += nbytes
        seconds = perf_counter() - began
        if self._next_offset == had:
            self._put = self._put.more(nbytes, seconds)
        else:
            self._put_first = self._put_first.more(nbytes, seconds)
        self._states[self._out + region.place.number] = _USED
        return region.place._replace(nbytes=nbytes)

    def crossed_lately(self) -> tuple[Crossed, Crossed]:
        """Return what this side has written, and what it has copied out, since this was last asked.

        New memory takes several times as long to write as memory that is used again, and later calls will find the
        latter. So writing the former counts only if there was no other.
        """
        seen = self._put if self._put.nbytes else self._put_first, self._copied_out
        self._put = self._put_first = self._copied_out = Crossed()
        return seen

    def _free_region(self, nbytes: int) -> Region | None:
        best: Region | None = None
        states, at = self._states, self._out
        for number, region in enumerate(self._regions):
            if region is None or states[at + number] != _FREE:
                continue
            if nbytes <= region.place.capacity and (best is None or region.place.capacity < best.place.capacity):
                best = region
        return best or self._new_region(nbytes)

    def _new_region(self, nbytes: int) -> Region | None:
        """Reserve memory for another region, in place of free ones, which were all too small."""
        self.trim(0)
        capacity = _rounded(nbytes)
        free = self._free_memory()
        number = next((at for at, region in enumerate(self._regions) if region is None), len(self._regions))
        if number >= _MOST_REGIONS or self._next_offset + capacity > self._end:
            return None
        if free is not None and free < _HEADROOM * capacity:
            debug("%d bytes cross in messages, because only %d bytes of memory are free", nbytes, free)
            return None
        place = Place(number, self._next_offset, capacity, 0)
        try:
            _reserve(self.descriptor, place.offset, capacity)
            region = Region(self.descriptor, place)
        except (OSError, ValueError) as error:
            let_signals_through(error)
            debug("%d bytes cross in messages, because no memory was to be had: %r", nbytes, error)
            return None
        self._next_offset += capacity
        self._regions[number : number + 1] = [region]
        return region

    def trim(self, most_bytes: int = _IDLE_BYTES) -> None:
        """Give free regions back to the system, the largest first, until at most `most_bytes` are free."""
        free = [
            region
            for number, region in enumerate(self._regions)
            if region is not None and self._states[self._out + number] == _FREE
        ]
        total = sum(region.place.capacity for region in free)
        for region in sorted(free, key=lambda region: -region.place.capacity):
            if total <= most_bytes:
                return
            total -= region.place.capacity
            self._regions[region.place.number] = None
            _give_back(region.shared)

    # What this side reads.

    def open(self, place: Place) -> memoryview:
        """Return what the other side has written; it stays as it is until it is given up."""
        region = self._region_read(place)
        return memoryview(region.shared)[: place.nbytes] if region is not None else self._copied(place)

    def _region_read(self, place: Place) -> Region | None:
        """Return a region that the other side has written; None if it cannot be mapped here."""
        region = self._read.get(place.number)
        if region is None or region.place.offset != place.offset:
            try:
                region = Region(self.descriptor, place, private=self._lends_privately)
                self._read[place.number] = region
            except (OSError, ValueError) as error:
                let_signals_through(error)
                debug("%d bytes are copied, because they cannot be mapped: %r", place.nbytes, error)
                return None
        return region

    def copied(self, view: memoryview) -> bytearray:
        """Return a copy of what the other side has written."""
        began = perf_counter()
        copy = bytearray(view)
        self._copied_out = self._copied_out.more(len(copy), perf_counter() - began)
        return copy

    def _copied(self, place: Place) -> memoryview:
        copy = memoryview(bytearray(place.nbytes))
        _read(self.descriptor, copy, place.offset)
        return copy

    def free(self, number: int) -> None:
        """Give up a region of which nothing is in use."""
        self._states[self._in + number] = _FREE

    def lend(self, place: Place) -> memoryview:
        """Return what `open` does; `sweep` gives the region up when nothing refers to it any more."""
        region = self._region_read(place)
        if region is None:
            copy = self._copied(place)
            self.free(place.number)
            return copy
        self._lent.append(region)
        return memoryview(region.shared)[: place.nbytes]

    def sweep(self) -> None:
        """Give up the regions that were lent and are not referred to any more."""
        lent: list[Region] = []
        while self._lent:
            region = self._lent.pop()
            if region.is_referred_to():
                lent.append(region)
            else:
                if not _forget_writes(region.shared):  # they must not cover what comes next
                    self._read.pop(region.place.number, None)
                self.free(region.place.number)
        self._lent = lent

    def detach(self) -> None:
        """Make what is lent independent of the other side, because a process is forked that may outlive the loan."""
        for region in self._lent:
            region.detach()

    @property
    def bytes_lent(self) -> int:
        """How many bytes are lent now."""
        return sum(region.place.capacity for region in self._lent)

    def close(self) -> None:
        """Release what this process holds of the file."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
            self._regions.clear()
            self._read.clear()
            self._lent.clear()
            self._states.release()
            try:
                self.header.close()
            except BufferError:  # the slots may still be in use
                pass


# No other system has a store.


def _reserve(descriptor: int, offset: int, nbytes: int) -> None:
    if sys.platform == "linux":
        for start in range(offset, offset + nbytes, _RESERVED_BYTES):
            os.posix_fallocate(descriptor, start, min(_RESERVED_BYTES, offset + nbytes - start))


def _give_back(shared: mmap.mmap) -> None:
    if sys.platform == "linux":
        try:
            shared.madvise(mmap.MADV_REMOVE)
        except OSError as error:  # memory that is locked stays until the file is gone
            let_signals_through(error)


def _forget_writes(private: mmap.mmap) -> bool:
    if sys.platform == "linux":
        try:
            private.madvise(mmap.MADV_DONTNEED)
        except OSError as error:
            let_signals_through(error)
            return False  # the memory is locked
    return True


def _read(descriptor: int, into: memoryview, offset: int) -> None:
    if sys.platform == "linux":
        read = 0
        while read < len(into):
            read += os.preadv(descriptor, [into[read:]], offset + read)


def lends() -> bool:
    """Say whether arrays may be built in regions; where reference counts are not exact, they must be copied."""
    return _COUNTS


def _rounded(nbytes: int) -> int:
    """Return a capacity that sizes a little larger share, in whole pages.

    >>> _rounded(1), _rounded(8_000_000) - 8_000_000 < 1_000_000
    (65536, True)
    """
    step = max(HEADER_BYTES, LEAST_SHARED_BYTES, 1 << max(0, nbytes.bit_length() - 4))
    return -(-nbytes // step) * step
