"""How should a user who drives a Pool of their own run this work? The advisor samples the work and returns a plan.

It looks up a work profile or samples a new one, derives a plan for exactly this length and for the machine as it is
now, and gives the input back whole. Planning is pure, so plans are remembered by their arguments, and asking again
costs microseconds.
"""

from __future__ import annotations

import sys
import time
from functools import cache, lru_cache
from types import FunctionType

from . import context
from .backends.registry import find_for_plan
from .backends.rows import AUTO
from .cache import lookup
from .code.worklist import worklist_call
from .errors import let_signals_through
from .lean import NamedTuple, TypeVar, public
from .measure import machine, platforms
from .measure.inputs import Input
from .measure.sampling import measure_transfer, sample
from .options import DEFAULTS, check, resolve, undecorated
from .plan.planner import Plan, choose
from .plan.profile import Limits, MachineProfile, WorkProfile
from .state import register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .backends.rows import Row
    from .measure.sampling import Sample
    from .options import Options
    from .report.report import Report

__all__ = ["OptimizedPlan", "optimize"]

# A smaller value leaves too few items of 5 ms to judge their spread; a larger one would be felt, since the items run
# again later.
SAMPLE_SECONDS = 0.025
# An input that does not tell its length is taken to be so long, because a Pool is mostly given much work.
UNKNOWN_LENGTH_ITEMS = 10_000
# `Pool.map` cuts its chunks before any of them ran. With four chunks for each worker, the others can take over chunks
# of a slow worker.
CHUNKS_PER_WORKER = 4
# Shorter chunks consist mostly of their own overhead, 20 us each; longer ones let a worker end long after the others.
LEAST_CHUNK_SECONDS = 1e-3
MOST_CHUNK_SECONDS = 1.0
KEPT_SECONDS = 0.1  # how long the machine's state is kept: reading it costs as much as the rest of a known answer
REMEMBERED_PLANS = 256  # one for each pair of work and length that a program may ask about again and again

_T = TypeVar("_T")
_SERIAL, _PROCESSES, _EITHER = ("serial",), ("processes",), ("serial", "processes")
_PYTHON = sys.version.split(maxsplit=1)[0]


@public
class OptimizedPlan(Plan):
    """A plan for a Pool of the user's own, which also gives the input back.

    Attributes:
        data: the whole input: the same object if it can be iterated again, else an iterator over all its items. In such
            an iterator the items that were sampled, save numbers and text, are copies made before the function ran.
        profile: what was measured, if `profile=True` asked for it; else None.
        cache_hit: whether the work profile came from the cache, so that no item was run.
    """

    data: Iterable[Any] = ()
    profile: WorkProfile | None = None
    cache_hit: bool = False

    def explain(self) -> str:
        """Return a text that tells the choice, its reason, and the alternatives with their predicted seconds."""
        from .report.explain import explain

        return explain(self)

    @property
    def report(self) -> Report:
        """The plan as the report of a call that has not begun: its roads are those that were considered."""
        from .report.report import of_plan

        return of_plan(self)


@public
def optimize(
    func: Callable[[_T], Any],
    data: Iterable[_T],
    *,
    use_cache: bool = True,
    profile: bool = False,
    **options: Any,
) -> OptimizedPlan:
    """Advise how to run `func` over `data` on a `multiprocessing.Pool` of your own.

    Some items are run in this process to measure them, for about 25 ms and at least one item, unless the cache knows
    the work. The plan is serial or processes, and its chunk size suits `Pool.map` and `Pool.imap`. `amorsize.map` needs
    no such advice.

    Args:
        func: takes one item. It should not mind that the sampled items are run again later, by your Pool.
        data: any iterable. An iterator is advanced; use `plan.data` in its place. If the input can be iterated once
            only, an item that cannot be pickled is not tried out; the plan is serial then, and its reason says so.
        use_cache: False neither reads nor writes the cache. An input of unknown length never uses the cache.
        profile: True measures afresh, whatever the cache holds, and sets `plan.profile`.
        **options: as for `amorsize.map`; `n_jobs`, `chunksize`, `backend` and `start_method` bound the plan, and an
            `initializer` runs in this process before the first sampled item. These options win over those of a
            decorated function.

    Returns:
        The plan. An item that raised while it was sampled is named in `plan.warnings`.

    Raises:
        TypeError, ValueError: an option is unknown or unfit.
        UnsupportedError: `backend` is neither "auto", "serial", "processes" nor "pool", or processes are named where
            none can be started.

    >>> plan = optimize(abs, [-1, 2, -3], use_cache=False)
    >>> plan.backend, list(map(abs, plan.data))
    ('serial', [1, 2, 3])
    """
    if options or use_cache is not True:
        check({**options, "use_cache": use_cache}, "optimize")
    if not isinstance(profile, bool):
        raise TypeError(f"profile must be True or False, not {type(profile).__name__} {profile!r}")
    # True is the default, so it is not passed on as an option, and `config` may still say False.
    _, decorated = undecorated(func)
    resolved = resolve(options if use_cache else {**options, "use_cache": False}, decorated)
    question = _Question(func, Input(data, _fix, _load), _bounds(func, resolved), resolved)
    because = "there are no items" if question.input.n_items == 0 else question.bounds.not_sampled_because
    shown = None if question.input.rest is None else worklist_call(question.input.rest)
    if shown is not None:  # sampling would take all items that there are before the results can add further ones
        because = f"the input calls {shown} for its items, to which results may add"
    if because:
        return _finish(_without_work(because), question.input.whole())
    here, system = _surroundings(machine.configured_start_method(resolved.start_method), resolved.start_method)()
    known = None if profile else _from_cache(question, here, system)
    return known if known is not None else _from_sample(question, here, system, with_profile=profile)


@cache  # there are three start methods
def _surroundings(configured: str, requested: str | None) -> machine.Remembered[tuple[MachineProfile, lookup.System]]:
    """Return a reader of the machine's state that keeps its answer for a moment, which is good enough for advice."""

    def read() -> tuple[MachineProfile, lookup.System]:
        method = machine.start_method(requested)
        here = machine.machine_profile(method, route=f"pool/{method}")
        return here, lookup.System(here.physical_cores, configured, here.available_memory, sys.platform, _PYTHON)

    return machine.Remembered(read, KEPT_SECONDS)


class _Bounds(NamedTuple):
    """What the options and the circumstances leave to the planner; where they decide alone, a text says why."""

    row: Row
    limits: Limits
    serial_because: str = ""
    not_sampled_because: str = ""


class _Question(NamedTuple):
    """One call of `optimize`, whose arguments were checked and resolved."""

    func: Callable[..., Any]
    input: Input
    bounds: _Bounds
    options: Options

    @property
    def plain(self) -> Callable[..., Any]:
        """The function without amorsize's decorator, as the cache knows it."""
        return getattr(self.func, "_amorsize_function", self.func)


def _from_cache(question: _Question, here: MachineProfile, system: lookup.System) -> OptimizedPlan | None:
    n_items = question.input.n_items
    if n_items is None or not question.options.use_cache:
        return None
    work = lookup.find(question.plain, n_items, system).profile
    if work is None:
        return None
    plan = _plan(work, here, n_items, question.bounds)
    # A profile may stem from a serial run, after which it is not known whether such items can cross to a worker.
    if plan.backend != "serial" and (work.bytes_in is None or work.bytes_out is None or _obstacle(question.func)):
        return None
    return _finish(plan, question.input.whole(), cache_hit=True)


def _from_sample(
    question: _Question, here: MachineProfile, system: lookup.System, *, with_profile: bool
) -> OptimizedPlan:
    source, bounds = question.input, question.bounds
    expected = source.expected_items()
    if question.options.initializer is not None:
        question.options.initializer(*question.options.initargs)
    resident = platforms.process_memory()
    sampled = sample(question.plain, source.items(), SAMPLE_SECONDS, time.perf_counter, time.process_time)
    if source.kept:
        return _finish(_without_work(source.kept)._replace(warnings=_failures(source, sampled)), source.whole())
    if not sampled.items:
        return _finish(_without_work("there are no items"), source.whole())
    work = _profile(sampled, _growth(resident, platforms.process_memory()))
    n_items, warnings = _length(expected, sampled)
    warnings += _failures(source, sampled)
    plan = _plan(work, here, n_items, bounds)
    if with_profile or plan.backend != "serial":
        work = _with_crossing(work, sampled)
        plan = _plan(work, here, n_items, bounds)
    obstacle = "" if plan.backend == "serial" else _obstacle(question.func) or _item_obstacle(work, sampled)
    if obstacle:
        warnings += (f"a Pool cannot take this work as it is: {obstacle}",)
        if bounds.row is AUTO:
            plan = _plan(work, here, n_items, _only_serial(bounds, obstacle))
    if question.options.use_cache and source.n_items is not None:
        lookup.store(question.plain, n_items, work, plan, system)
    plan = plan._replace(warnings=plan.warnings + warnings)
    return _finish(plan, source.whole(), profile=work if with_profile else None)


def _bounds(func: Callable[..., Any], options: Options) -> _Bounds:
    inside = context.worker_process or context.in_worker.get() or context.in_daemon()
    if options is DEFAULTS and type(func) is FunctionType and not inside:
        return _USUAL_BOUNDS
    row, because = find_for_plan(options)
    n_jobs = machine.workers_asked(options.n_jobs)
    if not because and row is AUTO and n_jobs == 1:
        because = "one worker was asked for"
    backends = _SERIAL if because else _EITHER if row is AUTO else _PROCESSES
    not_sampled = "the function is a method of an object of this process" if context.works_in_place(func) else ""
    return _Bounds(row, Limits(n_jobs, options.chunksize, backends), because, not_sampled)


_USUAL_BOUNDS = _Bounds(AUTO, Limits(None, None, _EITHER))


def _only_serial(bounds: _Bounds, because: str) -> _Bounds:
    return bounds._replace(limits=bounds.limits._replace(backends=_SERIAL), serial_because=because)


def _plan(work: WorkProfile, here: MachineProfile, n_items: int, bounds: _Bounds) -> Plan:
    plan = _choose(work, here, n_items, bounds.limits)
    if bounds.serial_because:
        return plan._replace(reason=f"serial: {bounds.serial_because}")
    return plan if bounds.row is AUTO else plan._replace(backend=bounds.row.name)


@lru_cache(maxsize=REMEMBERED_PLANS)
def _choose(work: WorkProfile, here: MachineProfile, n_items: int, limits: Limits) -> Plan:
    """Return the planner's choice, with a chunk size for a Pool, which cuts all chunks before any of them ran."""
    plan = choose(work, here, n_items, limits)
    if plan.backend == "serial" or limits.chunksize is not None:
        return plan
    return choose(work, here, n_items, limits._replace(chunksize=_pool_chunksize(work, n_items, plan.n_jobs)))


register(_choose.cache_clear)


def _pool_chunksize(work: WorkProfile, n_items: int, n_jobs: int) -> int:
    share = -(-n_items // n_jobs)
    seconds = max(work.seconds_per_item, LEAST_CHUNK_SECONDS / n_items)  # so that nothing is divided by zero
    least = min(share, int(LEAST_CHUNK_SECONDS / seconds) + 1)
    most = max(1, int(MOST_CHUNK_SECONDS / seconds))
    return max(least, min(most, -(-share // CHUNKS_PER_WORKER)))


def _fix(item: Any) -> bytes:
    from .transport.serialize import dump_item

    return dump_item(item)


def _load(data: bytes) -> Any:
    from .transport.serialize import load

    return load(data)


def _without_work(because: str) -> Plan:
    return Plan("serial", 1, 1, 0.0, 0.0, f"serial: {because}")


def _finish(
    plan: Plan, data: Iterable[Any], *, cache_hit: bool = False, profile: WorkProfile | None = None
) -> OptimizedPlan:
    finished = OptimizedPlan(*plan)
    finished.data = data
    finished.cache_hit = cache_hit
    finished.profile = profile
    return finished


def _profile(sampled: Sample, memory_bytes: float) -> WorkProfile:
    times = sampled.times
    return WorkProfile(
        items=times.n,
        seconds_per_item=times.mean,
        seconds_std=times.std,
        seconds_max=times.max,
        cpu_share=sampled.cpu_share,
        memory_bytes=memory_bytes,
    )


def _with_crossing(work: WorkProfile, sampled: Sample) -> WorkProfile:
    crossing = measure_transfer(sampled.items, sampled.results, time.perf_counter)
    # A Pool's results come through a pipe, and their large memory is copied once more when they are loaded.
    copying = crossing.copied_seconds / crossing.copied_bytes if crossing.copied_bytes else 0.0
    return work._replace(
        bytes_in=crossing.bytes_in,
        bytes_out=crossing.bytes_out,
        transfer_seconds_per_item=crossing.seconds_per_item + copying * (crossing.bytes_out or 0.0),
    )


def _growth(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float:
    """Return by how many bytes resident memory grew, to its peak if there was a new peak, else to its final size."""
    if before is None or after is None:
        return 0.0
    highest = after[1] if after[1] > before[1] else after[0]
    return float(max(0, highest - before[0]))


def _length(expected: int | None, sampled: Sample) -> tuple[int, tuple[str, ...]]:
    if sampled.exhausted:
        return len(sampled.items), ()
    if expected is not None:
        return max(expected, len(sampled.items)), ()  # a hint may have promised too little
    text = f"the input does not tell its length: the plan is for {UNKNOWN_LENGTH_ITEMS:,} items"
    return UNKNOWN_LENGTH_ITEMS, (text,)


def _failures(source: Input, sampled: Sample) -> tuple[str, ...]:
    if not sampled.failures:
        return ()
    taken, error = sampled.failures[0]
    others = len(sampled.failures) - 1
    text = f"item {source.place(taken)} raised {type(error).__name__} when it was sampled: {error}"
    return (text + (f" (and {others} more of {len(sampled.items)} sampled)" if others else ""),)


def _obstacle(func: Callable[..., Any]) -> str:
    """Return why a Pool could not send `func` to a worker; empty if it can."""
    if type(func) is FunctionType:
        # This looks the function up as pickle does, at a fifth of the price; every answer from the cache waits for it.
        held = getattr(sys.modules.get(func.__module__), func.__qualname__, None)
        # A decorated function is sent by the name that it shares with its decorated self.
        if held is func or getattr(held, "_amorsize_function", None) is func:
            return ""
    from pickle import dumps

    try:
        dumps(func)
    except Exception as error:  # noqa: BLE001 - an object's own pickling code may raise anything; the text goes on
        let_signals_through(error)
        return f"the function cannot be pickled: {type(error).__name__}: {error}"
    return ""


def _item_obstacle(work: WorkProfile, sampled: Sample) -> str:
    if work.bytes_in is None:
        return f"an item, of type {type(sampled.items[0]).__name__}, cannot be pickled"
    if work.bytes_out is None and sampled.results:
        return f"a result, of type {type(sampled.results[0]).__name__}, cannot be pickled"
    return ""
