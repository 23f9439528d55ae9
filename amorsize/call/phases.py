"""What stands between a stream and its call: the iterator of its phases, and its end when the stream is dropped."""

from __future__ import annotations

from _operator import length_hint
from _thread import RLock  # `threading.RLock`, without the import of `threading`
from itertools import count
from time import perf_counter

from ..lean import GeneratorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import Any

    from ..backends.events import Counts
    from ..plan.retry import Failed
    from ..report.tally import Tally
    from .audited import Auditor
    from .recorded import Recorder

__all__ = ["Dropped", "Phases", "close_all", "passed_on", "recorded_here"]


class Phases:
    """The iterator that the chain asks for its next iterable; it serves one thread at a time.

    A chain forgets its present iterable when a second thread brings it another. So as long as the newest iterable has
    something left, every thread that asks gets that one; the threads then share it, each taking its own items.
    """

    __slots__ = ("_lock", "_newest", "_phases")

    def __init__(self, phases: Generator[Iterable[Any], None, None]) -> None:
        self._phases = phases
        self._newest: Iterator[Any] | None = None
        self._lock = RLock()

    def __iter__(self) -> Phases:
        return self

    def __next__(self) -> Iterator[Any]:
        with self._lock:
            newest = self._newest
            if newest is not None and not _is_spent(newest):
                return newest
            try:
                self._newest = newest = iter(next(self._phases))
            except BaseException:
                # The chain does not ask again after an error, which may come from a signal handler that ran here.
                self._phases.close()
                raise
            return newest


def _is_spent(iterator: Any) -> bool:
    return iterator.gi_frame is None if type(iterator) is GeneratorType else not length_hint(iterator)


def passed_on(
    results: Iterable[Any], recorder: Recorder | Auditor | None, progress: Counts | None
) -> Iterator[Any]:
    """Yield the results of items that run in the caller, each written to the journal and counted, where these are.

    Once an item's error ends the call, or it is closed, both are closed, because nobody asks for the next phase.
    """
    try:
        for result in results:
            kept = result if recorder is None else recorder.values([result])[0]
            if progress is not None:
                progress.done(1)
            yield kept
    except BaseException as error:
        if recorder is not None:
            recorder.ended(error)
        close_all(progress, recorder)
        raise
    finally:
        close_all(results)


def recorded_here(results: Iterator[Any], record: Tally, first: int, failures: list[Failed]) -> Iterator[Any]:
    """Yield the results of items that run in the caller, and keep when each ran.

    Args:
        results: runs an item whenever its result is asked for.
        record: keeps it.
        first: position of the first item.
        failures: the items that failed for good so far; others add to this list.
    """
    try:
        for index in count(first):
            began, failed = perf_counter(), len(failures)
            try:
                result = next(results)
            except StopIteration:
                return
            except BaseException as raised:
                record.add_here(index, 1, began, perf_counter() - began, raised)
                record.close(raised)  # nobody asks for the next phase
                raise
            error = failures[-1].error if len(failures) > failed else None
            record.add_here(index, 1, began, perf_counter() - began, error)
            yield result
    finally:
        close_all(results)


def close_all(*things: Any) -> None:
    """Close each thing that can be closed, whatever closing those before it raises."""
    if not things:
        return
    try:
        if hasattr(things[0], "close"):
            things[0].close()
    finally:
        close_all(*things[1:])


class Dropped:
    """Closes a call when whatever holds this is dropped."""

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    def __del__(self) -> None:
        call = self._call
        if call.unused_name is not None and not call.begun:
            import warnings

            warnings.warn(
                f"the result of {call.unused_name} was never iterated, so nothing ran", RuntimeWarning, stacklevel=2
            )
        call.close(dropped=True)
