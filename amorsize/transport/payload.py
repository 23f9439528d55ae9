"""What a worker must have around a function just as the caller has it, and how a worker is brought up to date.

A function travels with its *surroundings* (`code.reach`): places in the user's modules, each with a digest. A worker
compares them before it runs the function; if something differs, it refuses with `Outdated`, which names the places.
The caller then sends the function again, together with what stands at these places in the caller (`_carry`): numbers,
texts and plain data, and functions with their code. The worker puts these into its modules while it runs this
function, and restores what was there before it runs another one.

What cannot be carried (a class with other bases, a mock, a connection) is `Uncarriable`. An old worker may then be
replaced by a fresh one; if a fresh worker refused, another would do no better.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from _struct import Struct
from functools import partial
from types import CodeType

from ..code.draws import draws_of
from ..code.functions import FunctionSet
from ..code.reach import find_place, surroundings
from ..code.seeds import mentions_seeding, program_seeds
from ..code.strict import ABSENT, is_foreign
from ..errors import AmorsizeError, SerializationError, let_signals_through
from ..hashing import hash_of
from ..lean import map
from ..seeding import Seeded
from . import by_value
from .ambient import packed_snapshot
from .blame import said_of
from .bound import pieces_of, settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import FrameType
    from typing import Any

    from ..code.reach import Surroundings
    from .memory import Buffer

    Place = tuple[str, str]

__all__ = ["LENGTH", "Outdated", "Payload", "Uncarriable", "must_draw_here", "payload_of", "users_classes"]

LENGTH = Struct("<Q")
# Data that may have changed in place are compared again before a call that sends work, if they have no more than
# `_ALWAYS_PARTS` parts, or so few that comparing them takes a small share of what the call is expected to gain. With
# smaller values more changes go unnoticed; with larger ones calls begin later (benchmarks/against.py).
_ALWAYS_PARTS = 64
_SECONDS_PER_PART = 0.4e-6
_SHARE_OF_GAIN = 0.02


class Outdated(SerializationError):
    """A worker has something else than the caller at some places, so it did not run the function.

    Args:
        digest: the digest of the payload that was refused.
        places: the module and qualified name of each place.
    """

    def __init__(self, digest: bytes, places: list[Place]) -> None:
        super().__init__(digest, places)
        self.digest = digest
        self.places = places

    def __str__(self) -> str:
        names = ", ".join(f"{module}.{path}" for module, path in self.places[:5])
        return f"workers have another {names} than the caller"


class KeptHere(AmorsizeError):
    """A function would give other results in a worker, so its items run there only if the user named a backend."""


class Uncarriable(SerializationError):
    """Workers lack what the caller has at some place, and it cannot be sent to them."""


class Payload:
    """A function on its way to workers, with its surroundings.

    Args:
        function: the pickled function, in pieces.
        look: a function that returns what the function, and the methods of its items' classes, reach by name.
        kinds: the user's classes that its items are of.
        initialized: whether an initializer runs in the workers; it may then set data, so data are not compared.
        carried: for each place where workers had something else, what the caller has there, pickled.
        waived: places that are not compared any more.
        ambient: the caller's settings (`transport.ambient`), pickled.
        read: a hash object that stands for the pickled function; None if there is none.

    Attributes:
        surroundings: what the function and its items' classes reach by name.
    """

    def __init__(
        self,
        function: Sequence[Buffer],
        look: Callable[[Iterable[type]], Surroundings],
        kinds: frozenset[type] = frozenset(),
        *,
        initialized: bool = False,
        carried: tuple[tuple[Place, bytes], ...] = (),
        waived: frozenset[Place] = frozenset(),
        ambient: bytes,
        read: Any = None,
    ) -> None:
        self._function = function
        self._look = look
        self._kinds = kinds
        self.surroundings = surroundings = look(kinds)
        self._initialized = initialized
        self._carried = carried
        self._waived = waived
        self._ambient = ambient
        self._read = read or hash_of(function)
        told = [surroundings.digest, ambient]
        if initialized or carried or waived:
            told += [b"i" if initialized else b"", *(data for _, data in carried), repr(sorted(waived)).encode()]
        whole = self._read.copy()
        whole.update(b"".join(told))
        self.digest: bytes = whole.digest()[:16]
        self._around = b""

    def __len__(self) -> int:
        return sum(map(len, self._function))

    @property
    def shares_memory(self) -> bool:
        """Whether the function itself imports shared memory, so that a worker may be the first to import it."""
        return self.surroundings.shares

    @property
    def modules(self) -> frozenset[str]:
        """The modules in which a worker will look whether it has what the caller has."""
        return frozenset([entry.module for entry in self.surroundings.entries]) - {"__main__", "builtins"}

    def parts(self) -> list[Buffer]:
        """Return the buffers that, when joined, are what `rebuild` takes."""
        if not self._around:
            entries = [
                tuple(entry)
                for entry in self.surroundings.entries
                if (entry.code or not self._initialized) and (entry.module, entry.path) not in self._waived
            ]
            self._around = pickle.dumps((entries, self._carried, self._ambient), by_value.PROTOCOL)
        return [LENGTH.pack(len(self._around)), self._around, *self._function]

    def with_items_of(self, kinds: frozenset[type]) -> Payload:
        """Return the payload for items that are of these classes as well."""
        return Payload(
            self._function,
            self._look,
            self._kinds | kinds,
            initialized=self._initialized,
            carried=self._carried,
            waived=self._waived,
            ambient=self._ambient,
            read=self._read,
        )

    def brought_up_to_date(self, places: Iterable[Place], *, waive_data: bool) -> Payload:
        """Return a payload that carries what the caller has at these places.

        Args:
            places: the places where workers have something else.
            waive_data: whether data that cannot be carried may stay as the workers have them.

        Raises:
            Uncarriable: if something cannot be sent.
        """
        known = dict(self._carried)
        data = {(entry.module, entry.path) for entry in self.surroundings.entries if not entry.code}
        outdated = frozenset(places)
        waived = set(self._waived)
        for place in outdated:
            if place in known:
                problem = f"{place[0]}.{place[1]} stays another in workers"
            else:
                problem = ""
                try:
                    known[place] = _carry(place, outdated)
                except Exception as error:  # pickling runs the user's code
                    let_signals_through(error)
                    problem = f"{place[0]}.{place[1]} cannot be sent to a worker: {error}"
            if problem and waive_data and place in data:
                waived.add(place)
            elif problem:
                raise Uncarriable(problem)
        return Payload(
            self._function,
            self._look,
            self._kinds,
            initialized=self._initialized,
            carried=tuple(known.items()),
            waived=frozenset(waived),
            ambient=self._ambient,
            read=self._read,
        )


def payload_of(
    function: Any,
    *,
    initializer: Callable[..., object] | None = None,
    gain_seconds: float = 0.0,
    by_name: bool = True,
    warns: bool = True,
) -> Payload:
    """Return the payload of a user's function.

    Args:
        function: any callable, or `Seeded`.
        initializer: the user's initializer, which runs in each worker first.
        gain_seconds: how many seconds the call is expected to gain; 0 if that is unknown.
        by_name: whether the user named a backend that has workers.
        warns: whether a warning says so, if the user did, and the random numbers would differ in a worker.

    Raises:
        SerializationError: if the function cannot be pickled.
        KeptHere: if its random numbers would differ in a worker and the user named no backend.
    """
    try:
        pickled, read = settled(pieces_of(function))
    except BaseException as error:  # user code may raise anything, even SystemExit
        let_signals_through(error)
        raise SerializationError(f"{function!r} cannot be sent to a worker: {said_of(error, function)}") from error
    plain = function.function if isinstance(function, Seeded) else function
    most_parts = max(_ALWAYS_PARTS, gain_seconds * _SHARE_OF_GAIN / _SECONDS_PER_PART)
    look = partial(surroundings, plain, most_parts)
    payload = Payload(pickled, look, initialized=initializer is not None, ambient=packed_snapshot(), read=read)
    reason = must_draw_here(plain, payload.surroundings, seeded=plain is not function, initializer=initializer)
    if reason and not by_name:
        raise KeptHere(reason)
    if reason and warns and plain not in _warned:
        _warned.add(plain)
        warnings.warn(f"amorsize: {reason}", RuntimeWarning, stacklevel=_levels_to_the_user())
    return payload


def must_draw_here(
    function: Any, around: Surroundings, *, seeded: bool, initializer: Callable[..., object] | None
) -> str:
    """Return why a function's random numbers would differ elsewhere; the text is empty if they would not.

    Args:
        function: the user's function.
        around: what the function reaches by name.
        seeded: whether the call sets the shared random states for each item.
        initializer: the user's initializer, which may seed the workers' states.
    """
    draws = draws_of(function, around)
    if draws.own:
        return (
            f"{function!r} draws from a random generator of this process ({draws.own}), and each worker would draw the "
            f"same numbers from a copy; pass seed= and draw from amorsize.item_rng() for the same numbers everywhere"
        )
    if not draws.shared or seeded or _seeds(initializer) or not program_seeds():
        return ""
    return (
        f"{function!r} draws from a random state that this program has seeded ({draws.shared}), and workers have "
        f"states of their own; pass seed= for the same numbers everywhere"
    )


def _seeds(initializer: Any) -> bool:
    while type(initializer) is partial:
        initializer = initializer.func
    code = getattr(initializer, "__code__", None)
    return "seed" in str(getattr(initializer, "__name__", "")) or (type(code) is CodeType and mentions_seeding(code))


def _levels_to_the_user() -> int:
    """Return the `stacklevel` with which the calling function warns at the user's line that asked for the results."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_back is not None and _is_ours(frame):
        frame, level = frame.f_back, level + 1
    return level


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "amorsize"


_warned = FunctionSet()


def users_classes(items: Iterable[object], seen: set[type]) -> frozenset[type]:
    """Return the user's classes among those of the items that were not `seen` before, and add all of them to `seen`."""
    new = set(map(type, items)) - seen
    seen |= new
    return frozenset(kind for kind in new if not is_foreign(kind.__module__) and kind.__module__ != "builtins")


def _carry(place: Place, outdated: frozenset[Place]) -> bytes:
    _, _, value = find_place(*place)
    if value is ABSENT:
        return b""
    return by_value.dump_for_place(value, outdated)
