"""Find out whether several threads could run a function at once as if each were alone.

A process of its own has its own copy of everything; a thread has not. So under "auto" a function stays off threads if
its code, or the user's code that it reaches by name:

- rebinds globals, variables of enclosing functions, or attributes of objects that it did not make itself;
- changes containers or fills memory that it can reach, which may be where one step leaves something for the next;
- reaches an open file, a socket, a connection, an iterator or a `threading.local`, which serve one thread at a time, or
  calls several methods of a package's object, which may be steps of one exchange;
- names what acts on the whole process or on the running thread: signals, event loops, the current folder.

The walk follows names in the user's own code, as `code.reach` does. What installed packages do inside is theirs to
answer for: sessions and connection pools are made for threads. In doubt the answer is no, because then work only takes
longer.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

from ..errors import let_signals_through
from .bytecode import outer_names
from .functions import call_of
from .reading import UNKNOWN, Reading
from .strict import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["why_not_shared"]

# What acts on the process or the thread, by the names that code uses for it.
_NAMES = frozenset(
    {
        "alarm", "catch_warnings", "chdir", "current_task", "current_thread", "fchdir", "fork", "get_event_loop",
        "get_ident", "get_native_id", "get_running_loop", "main_thread", "new_event_loop", "putenv", "redirect_stderr",
        "redirect_stdout", "run_until_complete", "set_event_loop", "set_wakeup_fd", "setitimer", "setlocale",
        "setprofile", "settrace", "simplefilter", "sqlite3", "umask", "unsetenv",
    }
)  # fmt: skip
_SIGNAL = "signal"
# Methods that leave something in a container for the next step.
_CHANGERS = frozenset(
    {
        "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove",
        "reverse", "rotate", "setdefault", "sort", "update",
    }
)  # fmt: skip
# Memory that is filled again and again, as by `file.readinto`.
_BUFFERS = frozenset({("array", "array"), ("mmap", "mmap"), ("numpy", "ndarray")})
_FILLERS = frozenset({"into", "out", "readinto", "readinto1", "recv_into", "recvfrom_into"})
# What makes a connection, if a cache keeps it for the next call.
_MAKERS = frozenset({"Popen", "connect", "connection", "cursor", "launch", "socket"})
# Objects of packages that are made for several threads say so in their class's name, more often than not.
_MADE_FOR_THREADS = ("api", "client", "engine", "pool", "session")
_STORES_ELEMENT = frozenset({"STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"})
# Iterators hand each item out once; two threads would share them out, or fail.
_CONTAINERS: tuple[type, ...] = (list, tuple, set, frozenset)
_MUTABLE: tuple[type, ...] = (list, dict, set, bytearray, deque)
_SCALARS = frozenset({bool, int, float, complex, str, bytes, type(None)})
# At most so many values and pieces of code are looked at; of what is more, nothing is known.
_MAX_STEPS = 500
_MAX_MEMBERS = 100


def why_not_shared(function: Any) -> str:
    """Return why threads must not share a function, in words; empty if they may.

    >>> def fetch(path):
    ...     return len(path)
    >>> why_not_shared(fetch)
    ''
    >>> import threading
    >>> why_not_shared(partial(fetch, threading.local()))
    'it reaches a local object, which belongs to one thread'
    """
    walk = _Walk()
    try:
        walk.value(function, "")
        while walk.pending and not walk.found:
            walk.code(*walk.pending.pop())
    except Exception as error:  # noqa: BLE001 - looking at the user's objects may run their code
        let_signals_through(error)
        return f"its code cannot be read: {error!r}"
    return walk.found


class _Walk:
    """One walk; it ends at the first thing found.

    Attributes:
        found: why threads must not share the function; empty so far.
        pending: code to be read, with its globals and what its names stand for.
    """

    def __init__(self) -> None:
        self.found = ""
        self.pending: list[tuple[CodeType, dict[str, Any], dict[str, Any]]] = []
        self._met: dict[int, Any] = {}
        self._left = _MAX_STEPS
        self._buffers: list[str] = []  # classes of memory that it reaches
        self._fills = False  # whether code was met that fills memory
        self._called: dict[int, set[str]] = {}  # for objects of packages, the methods that code calls

    def value(self, value: Any, text: str) -> None:
        """Look at something that code can reach."""
        kind = type(value)
        if self.found or value is UNKNOWN or kind in _SCALARS or kind is ModuleType or id(value) in self._met:
            return
        self._met[id(value)] = value  # it is kept, so that its `id` is not reused meanwhile
        self._left -= 1
        if self._left < 0:
            self.found = "it reaches more than can be looked at"
        elif kind is FunctionType:
            self._function(value, {})
        elif kind is MethodType:
            self.value(value.__self__, text)
            if type(value.__func__) is FunctionType:
                self._function(value.__func__, _first_is(value.__func__, value.__self__))
        elif kind is partial:
            self._all((value.func, *value.args, *value.keywords.values()), text)
        elif kind is BuiltinFunctionType:
            self.value(value.__self__, text)
        elif kind in _CONTAINERS:
            self._all(value, text)
        elif kind is dict:
            self._all(value.values(), text)
        elif issubclass(kind, type):
            self._class(value)
        else:
            self._object(value, text)

    def _all(self, values: Iterable[Any], text: str) -> None:
        for number, value in enumerate(tuple(values)):
            if number >= _MAX_MEMBERS or self.found:
                return
            self.value(value, text)

    def _object(self, value: Any, text: str) -> None:
        kind = type(value)
        if why := _of_one_thread(kind):
            self.found = f"it reaches a {kind.__name__} object, {why}"
            return
        if isinstance(value, (bytearray, memoryview)) or (kind.__module__, kind.__name__) in _BUFFERS:
            self._buffers.append(kind.__name__)
            self._look_at_buffers()
            return
        function = getattr(kind, "_amorsize_function", None)
        if function is not None:
            self.value(value._amorsize_function, text)
            return
        state = getattr(value, "__dict__", None)
        held = list(state.values()) if type(state) is dict else []
        if is_foreign(kind.__module__):
            # A package answers for its own objects, but not for a socket that it was given.
            for part in held[:_MAX_MEMBERS]:
                if _of_one_thread(type(part)):
                    self.value(part, text)
            wrapped = getattr(value, "__wrapped__", None)
            if kind.__module__ == "functools" and hasattr(kind, "cache_info"):
                code = getattr(wrapped, "__code__", None)
                if type(code) is CodeType and _MAKERS & outer_names(code).mentioned:
                    self.found = f"it reaches a cache of {getattr(wrapped, '__name__', 'a function')}, which connects"
                    return
            self.value(wrapped, text)
            return
        self._all(held, text)
        call = call_of(kind)
        if type(call) is FunctionType:
            self._function(call, _first_is(call, value))

    def _class(self, cls: type) -> None:
        if is_foreign(cls.__module__):
            return
        for base in cls.__mro__:
            if not is_foreign(base.__module__):
                for attribute in tuple(vars(base).values()):
                    if type(attribute) in {staticmethod, classmethod}:
                        self.value(attribute.__func__, cls.__name__)
                    elif type(attribute) is FunctionType:
                        self.value(attribute, cls.__name__)

    def _function(self, function: FunctionType, known: dict[str, Any]) -> None:
        wrapped = function.__dict__.get("__wrapped__")
        if wrapped is not None:
            self.value(wrapped, function.__name__)
        if is_foreign(function.__globals__.get("__name__")):
            return
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                known.setdefault(name, cell.cell_contents)
            except ValueError:  # the variable is not assigned yet
                continue
        self._all((*known.values(), *(function.__defaults__ or ())), function.__name__)
        self.pending.append((code, function.__globals__, known))

    def code(self, code: CodeType, space: dict[str, Any], known: dict[str, Any]) -> None:
        """Read a function's code, that of functions within it included."""
        outer = outer_names(code)
        if outer.rebound or outer.rebound_cells:
            (name, *_) = sorted(outer.rebound | outer.rebound_cells)
            self.found = f"it rebinds {name}"
        elif names := _NAMES & (outer.mentioned | outer.imported):
            self.found = f"it names {min(names)}, which acts on the process or its thread"
        elif _SIGNAL in outer.read | outer.imported and space.get(_SIGNAL, sys) in {sys, sys.modules.get(_SIGNAL)}:
            self.found = "it names signal, which acts on the process"
        else:
            self._stores_elements(code, space, known)
        if self.found:
            return
        if _FILLERS & outer.mentioned:
            self._fills = True
            self._look_at_buffers()
        reading = Reading(self, space, dict(known))
        for part in _with_inner(code):
            reading.read(part)

    def _stores_elements(self, code: CodeType, space: dict[str, Any], known: dict[str, Any]) -> None:
        """Find code that puts elements somewhere while it reaches a container from outside."""
        import dis

        for part in _with_inner(code):
            if not any(instruction.opname in _STORES_ELEMENT for instruction in dis.get_instructions(part)):
                continue
            self._fills = True
            self._look_at_buffers()
            outside = {name: space.get(name) for name in outer_names(part).read} | known
            for name, value in outside.items():
                state = getattr(value, "__dict__", None)
                held = list(state.values()) if type(state) is dict and type(value) is not ModuleType else []
                shared = any(isinstance(one, _MUTABLE) for one in (value, *held))
                if shared or (name == "os" and "environ" in part.co_names):
                    self.found = f"it puts elements into containers, and reaches {name}"
                    return

    def _look_at_buffers(self) -> None:
        if self._fills and self._buffers and not self.found:
            self.found = f"it fills memory, and reaches a {self._buffers[0]}"

    # What `Reading` tells.

    def use(self, value: Any, text: str) -> None:
        self.value(value, text)

    def step(self, value: Any, name: str, text: str) -> Any:
        if type(value) is ModuleType:
            return vars(value).get(name, sys.modules.get(f"{value.__name__}.{name}", UNKNOWN))
        self.value(value, text)
        if isinstance(value, _MUTABLE) and name in _CHANGERS and not self.found:
            self.found = f"it calls {name} of a container that threads would share"
        self._note_call(value, name)
        state = getattr(value, "__dict__", None)
        if type(state) is dict and name in state:
            return state[name]
        kind = value if isinstance(value, type) else type(value)
        found = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), UNKNOWN)
        if type(found) in {staticmethod, classmethod}:
            return found.__func__
        if type(found) is property:
            found = found.fget
        if type(found) is FunctionType and kind is not value:
            return MethodType(found, value)
        return found

    def _note_call(self, value: Any, name: str) -> None:
        """Take note of a method of a package's object; several may be steps of one exchange, as with a device."""
        kind = type(value)
        package = kind.__module__.partition(".")[0]
        if isinstance(value, type) or package in sys.stdlib_module_names or not is_foreign(kind.__module__):
            return
        if package == "builtins" or any(word in kind.__name__.lower() for word in _MADE_FOR_THREADS):
            return
        if callable(getattr(kind, name, None)):
            called = self._called.setdefault(id(value), set())
            called.add(name)
            if len(called) > 1 and not self.found:
                self.found = f"it calls {' and '.join(sorted(called))} of a {kind.__name__} object"

    def store(self, value: Any, name: str) -> None:
        if value is not UNKNOWN and not self.found:
            self.found = f"it sets the attribute {name} of an object that threads would share"


def _first_is(function: FunctionType, value: Any) -> dict[str, Any]:
    return {function.__code__.co_varnames[0]: value} if function.__code__.co_argcount else {}


def _with_inner(code: CodeType) -> list[CodeType]:
    found = [code]
    for part in found:
        found += [constant for constant in part.co_consts if type(constant) is CodeType]
    return found


def _of_one_thread(kind: type) -> str:
    """Return why objects of a class serve one thread at a time; empty if they need not."""
    threading = sys.modules.get("threading")
    if threading is not None and issubclass(kind, threading.local):
        return "which belongs to one thread"
    if hasattr(kind, "fileno"):
        return "which has one position or stream"
    if hasattr(kind, "__next__"):
        return "which is an iterator"
    name = kind.__name__.lower()
    if "pool" not in name and ("connection" in name or "cursor" in name):
        return "which serves one thread at a time"
    if hasattr(kind, "commit") and hasattr(kind, "rollback"):
        return "which serves one thread at a time"
    return ""
