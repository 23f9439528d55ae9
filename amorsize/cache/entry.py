"""What is kept of one measurement, and when is it believed? An `Entry` is kept as about 1 KB of JSON.

Whatever a file holds, `decode` either returns an entry in which every field has its type and a sensible range, or
raises `ValueError`. The stored plan is for people who read the file; a plan to run is always derived from the profile.
"""

from __future__ import annotations

from ..code.describe import DIGITS
from ..lean import NamedTuple
from ..plan.buckets import SIZES, TIMES, time_bucket
from ..plan.profile import CALLER, WorkProfile
from .json_text import parsed, written

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..plan.planner import Plan

__all__ = [
    "FORMAT",
    "TTL_SECONDS",
    "Entry",
    "FormatError",
    "Key",
    "StoredPlan",
    "System",
    "checked",
    "decode",
    "encode",
    "fault",
    "is_outdated",
    "memory_changed",
    "stored_plan",
]

FORMAT = 4
TTL_SECONDS = 7 * 24 * 3600.0
# A plan is not reused when free memory has changed by more than this share since. A smaller value means that ordinary
# fluctuation discards plans; a larger one means that a plan may no longer fit into memory.
_MEMORY_SHARE = 0.2

# No real measurement exceeds these; they keep a damaged number from growing into a plan.
_MAX_SECONDS = 1e9
_MAX_COUNT = 10**15
_MAX_BYTES = 1e18
_MAX_TEXT = 300
_LEAST_SLOWDOWN = 1e-3
_MAX_WARNINGS = 5
# The fields of a profile that are stored, which are those measured on its own route.
_KEPT = tuple(name for name in WorkProfile._fields if name != "worker_seconds_per_item")
_HEX = frozenset("0123456789abcdef")
_ROUTE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789/_")


class FormatError(ValueError):
    """A file is of another format version."""


class Key(NamedTuple):
    """What an entry is found by: the function's fingerprint, buckets of length and of time per item, and a route."""

    func: str
    size: str
    time: str
    route: str = CALLER

    @property
    def text(self) -> str:
        return f"func:{self.func}_size:{self.size}_time:{self.time}_route:{self.route}_v:{FORMAT}"

    @property
    def filename(self) -> str:
        return f"{self.func}-{self.size}-{self.time}-{self.route.replace('/', '.')}-v{FORMAT}.json"

    @classmethod
    def of_filename(cls, name: str) -> Key | None:
        """Return the key that a file name of any format version stands for, or None if the file is not the cache's."""
        return _parsed_name(name)[0]


def is_outdated(name: str) -> bool:
    """Say whether a file is the cache's and of an older format, which nobody reads any more."""
    key, version = _parsed_name(name)
    return key is not None and version < FORMAT


def _parsed_name(name: str) -> tuple[Key | None, int]:
    """Return the key that a file name stands for, or None if the file is not the cache's, and the format version."""
    stem, _, ending = name.rpartition(".")
    func, size, time, *between, version = [*stem.split("-"), "", "", "", ""][: max(4, stem.count("-") + 1)]
    is_func = len(func) == DIGITS and _HEX.issuperset(func)
    is_version = ending == "json" and version[:1] == "v" and version[1:].isdecimal() and len(version) < 10
    if not (is_func and size in SIZES and time in TIMES and is_version and len(between) <= 1):
        return None, 0
    route = between[0].replace(".", "/") if between else CALLER  # the first format had no routes
    if not _ROUTE.issuperset(route):
        return None, 0
    return Key(func, size, time, route), int(version[1:])


class System(NamedTuple):
    """The facts of the machine on which an entry's validity depends.

    Attributes:
        physical_cores: number of physical cores of the machine.
        start_method: how workers are started, as configured.
        available_memory: bytes free for new processes; None if unknown.
        platform: for example "linux".
        python: for example "3.11.7".
    """

    physical_cores: int
    start_method: str
    available_memory: int | None
    platform: str
    python: str


class StoredPlan(NamedTuple):
    """The plan that a profile gave when it was stored; `plan.planner.Plan` explains the fields."""

    n_jobs: int
    chunksize: int
    backend: str
    estimated_speedup: float
    reason: str
    warnings: tuple[str, ...]


class Entry(NamedTuple):
    """One measurement.

    Attributes:
        key: what the entry is found by.
        function: the function's module and qualified name, for people who read the file.
        n_items: length of the input that was measured.
        timestamp: when it was measured, in seconds since the epoch.
        system: the machine's facts at that time.
        profile: what was measured.
        plan: the plan that the profile gave; None if no plan was made.
    """

    key: Key
    function: str
    n_items: int
    timestamp: float
    system: System
    profile: WorkProfile
    plan: StoredPlan | None


def fault(entry: Entry, system: System, now: float, ttl_seconds: float) -> str | None:
    """Return why an entry cannot be used on `system` at time `now`, in one word, or None if it can."""
    # An age below zero counts too: after the clock was set back, an entry from the future must not live for ever.
    if abs(now - entry.timestamp) > ttl_seconds:
        return "expired"
    if entry.system.physical_cores != system.physical_cores:
        return "physical_cores"
    if entry.system.start_method != system.start_method:
        return "start_method"
    return None


def memory_changed(then: int | None, now: int | None) -> bool:
    """Say whether free memory, in bytes, differs by more than a fifth; if either is unknown, it has not changed."""
    return then is not None and now is not None and abs(now - then) > _MEMORY_SHARE * then


def stored_plan(plan: Plan) -> StoredPlan:
    """Return what is kept of a plan, with its texts cut to a bounded length."""
    speedup = plan.estimated_speedup
    return StoredPlan(
        plan.n_jobs,
        plan.chunksize,
        plan.backend,
        speedup if 0 <= speedup <= _MAX_SECONDS else 0.0,  # a plan that predicts no time has no finite speed-up
        plan.reason[:_MAX_TEXT],
        tuple(text[:_MAX_TEXT] for text in plan.warnings[:_MAX_WARNINGS]),
    )


def encode(entry: Entry) -> bytes:
    """Return an entry as the content of its file."""
    plan = entry.plan
    content = {
        "version": FORMAT,
        "key": entry.key.text,
        "function": entry.function,
        "n_items": entry.n_items,
        "timestamp": entry.timestamp,
        "system": entry.system._asdict(),
        "profile": {name: getattr(entry.profile, name) for name in _KEPT},
        "plan": plan._asdict() if plan is not None else None,
    }
    return written(content).encode()


def decode(data: bytes, key: Key) -> Entry:
    """Return the entry that a file holds.

    Args:
        data: content of the file.
        key: the key that the file's name stands for; the content must name the same key.

    Raises:
        FormatError: the file says that it is of another format version.
        ValueError: anything else is wrong with the file.
    """
    try:
        content = parsed(data.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a wrong file is a wrong value
    if content.get("version") != FORMAT:
        raise FormatError(f"format {content.get('version')!r:.20}, not {FORMAT}")
    if content.get("key") != key.text:
        raise ValueError("the content belongs to another key")
    system, profile, plan = (_object(content, name) for name in ("system", "profile", "plan"))
    if system is None or profile is None:
        raise ValueError("system or profile is missing")
    return checked(
        Entry(
            key,
            content.get("function", ""),
            content.get("n_items", -1),
            content.get("timestamp", -1),
            System(*_fields(system, System._fields)),
            WorkProfile(**dict(zip(_KEPT, _fields(profile, _KEPT), strict=True))),
            StoredPlan(*_fields(plan, StoredPlan._fields)) if plan is not None else None,
        )
    )


def checked(entry: Entry) -> Entry:
    """Check the type and range of every field, and return `entry` with floats where an int stood for one.

    Raises:
        ValueError: a field has a wrong type, is out of range, or contradicts the key.
    """
    system, profile, plan = entry.system, entry.profile, entry.plan
    if plan is not None:
        warnings: Any = plan.warnings
        if not isinstance(warnings, (list, tuple)) or len(warnings) > _MAX_WARNINGS:
            raise ValueError("warnings is not a short list")
        plan = StoredPlan(
            _whole("n_jobs", plan.n_jobs, 1),
            _whole("chunksize", plan.chunksize, 1),
            _text("backend", plan.backend),
            _number("estimated_speedup", plan.estimated_speedup, _MAX_SECONDS),
            _text("reason", plan.reason),
            tuple(_text("warnings", text) for text in warnings),
        )
    profile = WorkProfile(
        items=_whole("items", profile.items, 1),
        seconds_per_item=_number("seconds_per_item", profile.seconds_per_item, _MAX_SECONDS),
        seconds_std=_number("seconds_std", profile.seconds_std, _MAX_SECONDS),
        seconds_max=_number("seconds_max", profile.seconds_max, _MAX_SECONDS),
        cpu_share=_number("cpu_share", profile.cpu_share, _MAX_COUNT),
        bytes_in=_number_or_none("bytes_in", profile.bytes_in, _MAX_BYTES),
        bytes_out=_number_or_none("bytes_out", profile.bytes_out, _MAX_BYTES),
        transfer_seconds_per_item=_number("transfer_seconds_per_item", profile.transfer_seconds_per_item, _MAX_SECONDS),
        memory_bytes=_number("memory_bytes", profile.memory_bytes, _MAX_BYTES),
        route=_text("route", profile.route),
        slowdown=_number_or_none("slowdown", profile.slowdown, _MAX_COUNT),
        call_seconds=_number_or_none("call_seconds", profile.call_seconds, _MAX_SECONDS),
        load_seconds=_number_or_none("load_seconds", profile.load_seconds, _MAX_SECONDS),
        width=None if profile.width is None else _whole("width", profile.width, 1),
    )
    if time_bucket(profile.seconds_per_item) != entry.key.time:
        raise ValueError("seconds_per_item lies in another bucket than the key says")
    if profile.slowdown is not None and not _LEAST_SLOWDOWN <= profile.slowdown <= 1 / _LEAST_SLOWDOWN:
        raise ValueError("slowdown is out of range")
    if profile.route != entry.key.route:
        raise ValueError("the profile is of another route than the key says")
    memory = system.available_memory
    return Entry(
        entry.key,
        _text("function", entry.function),
        _whole("n_items", entry.n_items, 0),
        _number("timestamp", entry.timestamp, 1e12),
        System(
            _whole("physical_cores", system.physical_cores, 1),
            _text("start_method", system.start_method),
            None if memory is None else _whole("available_memory", memory, 0, int(_MAX_BYTES)),
            _text("platform", system.platform),
            _text("python", system.python),
        ),
        profile,
        plan,
    )


def _object(content: dict[str, Any], name: str) -> dict[str, Any] | None:
    found = content.get(name)
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{name} is not an object")
    return found


def _fields(found: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    return [found[name] for name in names]


def _whole(name: str, value: Any, low: int, high: int = _MAX_COUNT) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is not a whole number from {low} to {high}")
    return value


def _number(name: str, value: Any, high: float) -> float:
    # The comparison is false for NaN too.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= high:
        raise ValueError(f"{name} is not a number from 0 to {high:g}")
    return float(value)


def _number_or_none(name: str, value: Any, high: float) -> float | None:
    return None if value is None else _number(name, value, high)


def _text(name: str, value: Any) -> str:
    if type(value) is not str or len(value) > _MAX_TEXT:
        raise ValueError(f"{name} is not a text of at most {_MAX_TEXT} characters")
    return value
