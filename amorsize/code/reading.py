"""Find by names which values a function's code uses, by reading the code and not running it.

Names and the attributes that follow them are looked up as they are now: `np.random.rand`, `self.rng.normal`, what is
imported within the function, and local names that stand for any of these. Branches are read one after another.
"""

from __future__ import annotations

import sys

from ..lean import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

__all__ = ["UNKNOWN", "Reading", "Watcher"]

# Stands for a value that only running the code would tell.
UNKNOWN: Any = object()
# These instructions may stand between a value and its use, and change neither.
_SILENT = frozenset({"CACHE", "COPY_FREE_VARS", "EXTENDED_ARG", "MAKE_CELL", "NOP", "NOT_TAKEN", "PUSH_NULL", "RESUME"})
# Where an import binds the last part of a dotted name, these instructions put the package aside.
_AFTER_IMPORT = frozenset({"POP_TOP", "ROT_TWO", "SWAP"})
_CELLS = frozenset({"LOAD_CLASSDEREF", "LOAD_DEREF", "LOAD_FROM_DICT_OR_DEREF"})
_GLOBALS = frozenset({"LOAD_FROM_DICT_OR_GLOBALS", "LOAD_GLOBAL", "LOAD_NAME"})


class Watcher(Protocol):
    """An object that is told what code does with values."""

    def use(self, value: Any, text: str) -> None:
        """Take note of a value that code calls, hands on or looks into; `text` is how the code names it."""

    def step(self, value: Any, name: str, text: str) -> Any:
        """Return the attribute that a value has under a name; `UNKNOWN` if that cannot be told."""

    def store(self, value: Any, name: str) -> None:
        """Take note of an attribute that code sets on a value."""


class Reading:
    """One reading of one code object, from its first instruction to its last.

    Args:
        watcher: the object that is told which values the code uses.
        space: the code's globals.
        known: what the code's local names and cells stand for; it is changed when the code assigns them.

    Attributes:
        mentioned: names of attributes that the code mentions.
        pairs: each is a name of something unknown, and an attribute that the code takes of it.
    """

    def __init__(self, watcher: Watcher, space: dict[str, Any], known: dict[str, Any]) -> None:
        self.mentioned: set[str] = set()
        self.pairs: set[tuple[str, str]] = set()
        self._watcher = watcher
        self._space = space
        self._known = known
        self._top: Any = UNKNOWN
        self._text = ""  # how the code names the value in `_top`
        self._last = ""
        self._module: Any = UNKNOWN
        self._wanted = False  # whether the import statement takes names from the module
        self._constants: list[Any] = [None, None]

    def read(self, code: CodeType) -> None:
        import dis  # importing it takes 1 ms, which would slow down calls that stay in the caller

        before = ""
        for instruction in dis.get_instructions(code):
            name = instruction.opname
            if name in _SILENT or (name in _AFTER_IMPORT and before in {"IMPORT_FROM", "ROT_TWO", "SWAP"}):
                before = name if name not in _SILENT else before
                continue
            before = name
            self._instruction(name, instruction.argval)
        self._let_go()

    def _instruction(self, name: str, argument: Any) -> None:
        if name in {"LOAD_ATTR", "LOAD_METHOD"}:
            self._step(argument)
        elif name == "STORE_ATTR":
            self._store_attribute(argument)
        elif name.startswith("STORE_FAST"):
            self._store_local(name, argument)
        elif name in {"STORE_DEREF", "STORE_NAME", "STORE_GLOBAL"}:
            self._assign(argument)
        elif name == "IMPORT_FROM":
            self._set(self._watcher.step(self._module, argument, self._text), argument)
            if not self._wanted:
                self._module = self._top  # a later instruction takes the next part of the dotted name
        else:
            self._let_go()
            if name == "IMPORT_NAME":
                self._import(argument)
            elif name in _GLOBALS:
                self._set(self._known.get(argument, self._space.get(argument, UNKNOWN)), argument)
            elif name in _CELLS:
                self._set(self._known.get(argument, UNKNOWN), argument)
            elif name.startswith("LOAD_FAST"):
                self._load_locals(argument)
            elif name.startswith("LOAD_SUPER"):
                self.mentioned.add(argument)
        self._constants = [self._constants[1], argument]

    def _step(self, name: str) -> None:
        self.mentioned.add(name)
        if self._top is UNKNOWN:
            if self._last:
                self.pairs.add((self._last, name))
        else:
            self._top = self._watcher.step(self._top, name, self._text)
        self._text, self._last = f"{self._text}.{name}", name

    def _store_attribute(self, name: str) -> None:
        self._watcher.store(self._top, name)
        self._set(UNKNOWN, "")

    def _store_local(self, name: str, argument: Any) -> None:
        if type(argument) is not tuple:
            self._assign(argument)
            return
        self._assign(argument[0])
        if name == "STORE_FAST_LOAD_FAST":
            self._load_locals(argument[1])
        else:
            self._assign(argument[1])

    def _assign(self, name: str) -> None:
        """Let a name stand for the value in `_top`, whose use will show where the name is used."""
        self._known[name] = self._top
        self._set(UNKNOWN, "")

    def _load_locals(self, names: Any) -> None:
        for name in names if type(names) is tuple else (names,):
            self._let_go()
            self._set(self._known.get(name, UNKNOWN), name)

    def _import(self, name: str) -> None:
        """Take the loaded module of an import statement: the one named after `from`, or the package of any other."""
        level, wanted = self._constants
        if level and isinstance(level, int):
            package = str(self._space.get("__package__") or "").split(".")
            name = ".".join([*package[: len(package) - level + 1], *([name] if name else [])])
        package_name = name.partition(".")[0]
        self._wanted = bool(wanted)
        self._module = sys.modules.get(name if wanted else package_name, UNKNOWN)
        self._set(self._module, name if wanted else package_name)

    def _set(self, value: Any, text: str) -> None:
        self._top, self._text, self._last = value, text, text

    def _let_go(self) -> None:
        if self._top is not UNKNOWN:
            self._watcher.use(self._top, self._text)
        self._set(UNKNOWN, "")
