"""Find out whether this program has seeded the random states that all its code shares.

`random` cannot tell. So the search looks for evidence, which is that the program's code mentions seeding: code on the
stacks of this process's threads, in one of the user's modules, or in a notebook's cells. A variable with the name
`seed` is no evidence; an attribute or a function with that name is.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType, ModuleType
from weakref import WeakKeyDictionary

from ..errors import let_signals_through
from ..lean import map
from ..state import register
from .strict import is_foreign

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["mentions_seeding", "program_seeds"]

_STATES = frozenset({"set_bit_generator", "set_state", "setstate"})
_told: WeakKeyDictionary[CodeType, bool] = WeakKeyDictionary()
register(_told.clear)
_told_of_text: dict[tuple[str, int], bool] = {}
register(_told_of_text.clear)
_MAX_TEXTS = 10_000


def program_seeds() -> bool:
    """Say whether this program seems to have seeded the state of `random`, or NumPy's global one."""
    return any(map(mentions_seeding, _running())) or any(map(_in_module, _users_modules())) or _in_cells()


def mentions_seeding(code: CodeType) -> bool:
    """Say whether code, or code nested in it, looks up something by a name such as `seed`."""
    told = _told.get(code)
    if told is None:
        told = _told[code] = _looks_up_seeding(code) or any(
            mentions_seeding(constant) for constant in code.co_consts if type(constant) is CodeType
        )
    return told


def _looks_up_seeding(code: CodeType) -> bool:
    if not any(map(_is_about_seeding, code.co_names)):
        return False
    import dis  # few functions get here

    assigned: set[str] = set()
    looked_up: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in {"IMPORT_FROM", "LOAD_ATTR", "LOAD_METHOD"} and _is_about_seeding(instruction.argval):
            return True
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"} and _is_about_seeding(instruction.argval):
            looked_up.add(instruction.argval)
        elif instruction.opname in {"STORE_GLOBAL", "STORE_NAME"}:
            assigned.add(instruction.argval)
    return not looked_up <= assigned


def _is_about_seeding(name: str) -> bool:
    # A name in capitals is a constant, such as the number to seed with; the function that seeds has another name.
    return name in _STATES or ("seed" in name and "unseed" not in name.lower() and not name.isupper())


def _running() -> Iterator[CodeType]:
    """Yield the user's code that is on some thread's stack."""
    for top in sys._current_frames().values():
        frame: Any = top
        while frame is not None:
            if not is_foreign(frame.f_globals.get("__name__")):
                yield frame.f_code
            frame = frame.f_back


def _users_modules() -> Iterator[ModuleType]:
    for name, module in tuple(sys.modules.items()):
        if type(module) is ModuleType and not is_foreign(name):
            yield module


def _in_module(module: ModuleType) -> bool:
    """Look at a module's source or, if it has none, at its functions and those of its classes."""
    name, loader = getattr(module, "__name__", ""), getattr(getattr(module, "__spec__", None), "loader", None)
    read = getattr(loader, "get_source", None)
    if read is None:
        return _in_functions(vars(module).values())
    key = (name, id(module))
    if key not in _told_of_text:
        try:
            text = read(name)
        except (ImportError, OSError, UnicodeError, SyntaxError) as error:  # the file may be gone, or half written
            let_signals_through(error)
            text = None
        found = _in_functions(vars(module).values()) if text is None else _in_text(text)
        _remember(key, found)
    return _told_of_text[key]


def _in_functions(values: Iterable[Any]) -> bool:
    for value in tuple(values):
        if type(value) is FunctionType and mentions_seeding(value.__code__):
            return True
        if issubclass(type(value), type) and not is_foreign(value.__module__) and _methods_do(value):
            return True
    return False


def _methods_do(cls: type) -> bool:
    functions = (getattr(value, "__func__", value) for value in tuple(vars(cls).values()))
    return any(mentions_seeding(value.__code__) for value in functions if type(value) is FunctionType)


def _in_text(text: str) -> bool:
    if "seed" not in text and not any(name in text for name in _STATES):
        return False
    try:
        return mentions_seeding(compile(text, "<text>", "exec", dont_inherit=True))
    except (SyntaxError, ValueError):  # the text was edited since, or is not plain Python
        return True


def _in_cells() -> bool:
    """Say whether code that was typed into a notebook mentions seeding."""
    for number, cell in enumerate(getattr(sys.modules.get("__main__"), "In", ())):
        if not isinstance(cell, str):
            continue
        key = (cell, number)
        if key not in _told_of_text:
            _remember(key, _in_text(cell))
        if _told_of_text[key]:
            return True
    return False


def _remember(key: tuple[str, int], found: bool) -> None:
    if len(_told_of_text) >= _MAX_TEXTS:
        _told_of_text.clear()
    _told_of_text[key] = found
