"""Every piece of process-wide state has an owner who says how it is forgotten, or a reason here why it is not."""

from __future__ import annotations

import ast
import multiprocessing
import os
import sys
from pathlib import Path

import psutil
import pytest
import workers

import amorsize
from amorsize import state
from amorsize.cache import lookup
from amorsize.code import fingerprint
from amorsize.code.functions import FunctionSet, unfit
from amorsize.measure import machine

PACKAGE = Path(amorsize.__file__).parent
# What makes something that lasts and changes, at a module's top.
MAKERS = {
    "Counter", "FunctionSet", "FunctionTable", "Costs", "Guard", "Memory", "OrderedDict", "RLock", "Remembered",
    "WeakKeyDictionary", "WeakSet", "WeakValueDictionary",
    "_QuickTurns", "allocate_lock", "count", "deque", "defaultdict", "dict", "list", "set", "ContextVar",
}  # fmt: skip
LEARNT = "forgotten by reset_all"
WORKERS = "who this process's workers are; `amorsize.shutdown()` is there for them"
IN_WORKER = "a worker's own life, which no reset of the caller's reaches"
NUMBERS = "numbers that must not come twice"
FILLED = "filled when modules are imported, and never after"
LOCK = "a lock"
TOKENS = "by which workers that run still refer to this process's classes"
KNOWN = {
    "advise._choose": LEARNT,
    "backends.processes.handle._all_workers": WORKERS,
    "backends.processes.idle._exit_hook_set": WORKERS,
    "backends.processes.idle._generation": WORKERS,
    "backends.processes.idle._idle": WORKERS,
    "backends.processes.idle._leaving": WORKERS,
    "backends.processes.idle._lock": LOCK,
    "backends.processes.idle._modules_looked_at": WORKERS,
    "backends.processes.idle._specs_seen": WORKERS,
    "backends.processes.lease._calls": NUMBERS,
    "backends.processes.lease._unreleased": WORKERS,
    "backends.processes.launch._turn": LOCK,
    "backends.processes.server._current": WORKERS,
    "backends.processes.server._ending": WORKERS,
    "backends.processes.server._left": WORKERS,
    "backends.processes.server._loading": WORKERS,
    "backends.processes.server._lock": LOCK,
    "backends.processes.server._reloads": WORKERS,
    "backends.processes.server._specs": WORKERS,
    "backends.processes.server._unfit": LEARNT,
    "backends.processes.start._opening": WORKERS,
    "backends.processes.start._start_lock": LOCK,
    "backends.processes.start._shared": WORKERS,
    "backends.registry._openers": "what was imported",
    "backends.rows.ROWS": FILLED,
    "backends.engine._calls": NUMBERS,
    "cache.disk._platform_base": LEARNT,
    "cache.memory.memory": LEARNT,
    "call.driver._again": LEARNT,
    "call.driver._short": LEARNT,
    "call.preload._busy": LOCK,
    "call.preload._loaded": "what was imported",
    "call.preload.glancing": "threads that run now",
    "call.waiting.unhelped": LEARNT,
    "call.headstart._quick_turns": "how many threads ask for quick turns now",
    "call.policy.holding": LEARNT,
    "cache.costs._shared": LEARNT,
    "call.policy.trusted": LEARNT,
    "call.policy.sent": LEARNT,
    "call.stay.staying": LEARNT,
    "child.initialize._first": IN_WORKER,
    "child.initialize._left": IN_WORKER,
    "child.rebuild._displaced": IN_WORKER,
    "child.task.open_calls": "the calls that are open",
    "child.rebuild._entered": IN_WORKER,
    "code.draws._known": LEARNT,
    "code.fingerprint._described": LEARNT,
    "code.fingerprint._remembered": LEARNT,
    "code.functions.unfit": LEARNT,
    "code.modules._counted": LEARNT,
    "code.reach._known": LEARNT,
    "code.reach._merged": LEARNT,
    "code.seeds._told": LEARNT,
    "code.seeds._told_of_text": LEARNT,
    "code.strict._foreign": LEARNT,
    "journal._held": LOCK,
    "journal._reading": LOCK,
    "context.in_worker": "where this code is running",
    "context.preloading": "threads that are importing now",
    "context.worker_process": "where this code is running",
    "feed.voice._shown": LEARNT,
    "measure.machine._available_memory": LEARNT,
    "measure.machine._costs": LEARNT,
    "measure.machine._cpu_limit": LEARNT,
    "measure.machine._has_forkserver": LEARNT,
    "measure.machine._own_cpu_seconds": NUMBERS,
    "measure.machine._own_lock": LOCK,
    "measure.machine._own_threads": "threads that run now",
    "measure.machine._physical_cores": LEARNT,
    "options._configured": "the user's own `config` blocks",
    "runners.holders": FILLED,
    "state._resets": FILLED,
    "transport.ambient._packed": LEARNT,
    "transport.bare_names._unset": IN_WORKER,
    "transport.bound._kept": LEARNT,
    "transport.by_value._built": TOKENS,
    "transport.by_value._classes": TOKENS,
    "transport.by_value._here": IN_WORKER,
    "transport.by_value._inherited_origin": TOKENS,
    "transport.by_value._next_number": NUMBERS,
    "transport.by_value._numbers": TOKENS,
    "transport.by_value._origin": TOKENS,
    "transport.by_value._tokens": TOKENS,
    "transport.by_value._unset": IN_WORKER,
    "transport.payload._warned": LEARNT,
    "transport.relay._packed": LEARNT,
}


def _made_here(value):
    if isinstance(value, ast.List | ast.Dict | ast.Set):
        return not (getattr(value, "elts", None) or getattr(value, "keys", None))
    if isinstance(value, ast.Call):
        called = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in MAKERS
    return False


def _state_of(path):
    """Yield the names of a module's that last and change."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and _made_here(node.value):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield from node.names


def test_every_piece_is_known():
    """A new one says whose it is: it registers, or stands in the table with its reason."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found.update(f"{module}.{name}" for name in _state_of(path))
    # Made otherwise than the look above sees.
    found |= {"advise._choose", "backends.rows.ROWS", "cache.costs._shared"}
    found |= {"context.worker_process", "runners.holders"}

    assert found == set(KNOWN)


def test_one_call_forgets_all_that_was_learnt():
    """Whatever the owner, and whether it was loaded early or late."""
    list(amorsize.map(workers.square, range(50), backend="processes", n_jobs=2))
    unfit.add(workers.square)
    machine.learn_start("processes/spawn", 5.0)
    assert fingerprint.remembers(workers.square)
    state.reset_all()

    assert not fingerprint.remembers(workers.square)
    assert workers.square not in unfit
    assert machine.seconds_first_start("spawn") < 1
    assert lookup.cache_stats().hits == 0
    ambient = sys.modules["amorsize.transport.ambient"]
    assert ambient._packed == []


def test_sets_of_functions_are_forgotten_with_the_rest():
    """Each registers itself when it is made."""
    some = FunctionSet()
    some.add(workers.square)
    state.reset_all()

    assert workers.square not in some


def test_workers_are_not_forgotten():
    """They are there for the next call, whose first one measures anew."""
    options = {"backend": "processes", "n_jobs": 2}
    list(amorsize.map(workers.process_id, range(50), chunksize=1, **options))
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    state.reset_all()

    assert set(amorsize.map(workers.process_id, range(50), chunksize=1, **options)) <= before


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")
def test_what_is_to_happen_in_a_forked_child_happens_there(python, tmp_path):
    """In the order in which it was said, and an error of one does not stop the others."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from amorsize import state\n"
        "said = []\n"
        "sys.unraisablehook = lambda _: said.append('told')\n"
        "state.register(after_fork=lambda: said.append(1))\n"
        "state.register(after_fork=lambda: 1 / 0)\n"
        "state.register(after_fork=lambda: said.append(2))\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    os.write(1, repr(said).encode())\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "assert said == []\n"
    )

    child = python(script)

    assert child.stdout == "[1, 'told', 2]", child.stderr
    assert os.path.exists(script)
