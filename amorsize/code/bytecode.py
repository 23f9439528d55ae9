"""Find which outer names a function's code reads and which it rebinds, in one pass over its instructions.

`co_names` alone cannot tell, because it also holds the names of attributes. `opcode` gives the instructions' numbers;
`dis` would give the same, but importing it takes longer than the first look-up of a process can afford.
"""

from __future__ import annotations

import sys
from opcode import opmap
from types import CodeType

from ..lean import NamedTuple, map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OuterNames", "outer_names", "slots"]


class OuterNames(NamedTuple):
    """The names that a code object and the code nested in it look up outside their own locals.

    Attributes:
        read: globals that are read and never rebound.
        rebound: globals that are assigned or deleted.
        mentioned: every global and attribute name.
        rebound_cells: variables of enclosing functions that are assigned or deleted.
        imported: names of modules that the code itself imports.
    """

    read: frozenset[str]
    rebound: frozenset[str]
    mentioned: frozenset[str]
    rebound_cells: frozenset[str]
    imported: frozenset[str]


def outer_names(code: CodeType) -> OuterNames:
    """Return the outer names of `code`."""
    read: set[str] = set()
    mentioned: set[str] = set()
    rebound: set[str] = set()
    rebound_cells: set[str] = set()
    imported: set[str] = set()
    pending = [code]
    while pending:
        current = pending.pop()
        pending.extend(constant for constant in current.co_consts if type(constant) is CodeType)
        names = current.co_names
        mentioned.update(names)
        places = slots(current)
        for operation, argument in _instructions(current.co_code):
            if operation == _LOAD_GLOBAL:
                read.add(names[argument >> _LOAD_GLOBAL_SHIFT])
            elif operation in _LOAD_NAMES:
                read.add(names[argument])
            elif operation in _STORE_GLOBALS:
                rebound.add(names[argument])
            elif operation == _IMPORT_NAME:
                imported.add(names[argument])
            elif places[argument] in current.co_freevars:
                rebound_cells.add(places[argument])
    return OuterNames(*map(frozenset, (read - rebound, rebound, mentioned, rebound_cells, imported)))


def _instructions(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield the instructions of interest, with their arguments put together from extended parts."""
    high = 0
    for place in range(0, len(raw), 2):
        operation = raw[place]
        if operation == _EXTENDED_ARG:
            high = (high | raw[place + 1]) << 8
            continue
        if operation in _OF_INTEREST:
            yield operation, high | raw[place + 1]
        high = 0


def slots(code: CodeType) -> tuple[str, ...]:
    """Return the names that the arguments of the cell instructions are indexes into."""
    own = tuple(name for name in code.co_cellvars if _CELLS_APART or name not in code.co_varnames)
    return (() if _CELLS_APART else code.co_varnames) + own + code.co_freevars


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(opmap[name] for name in names if name in opmap)


_EXTENDED_ARG = opmap["EXTENDED_ARG"]
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]
_LOAD_GLOBAL_SHIFT = int(sys.version_info >= (3, 11))  # since 3.11 the lowest bit asks for a NULL to be pushed
_CELLS_APART = sys.version_info < (3, 11)  # since 3.11 cells are numbered after the locals, which include arguments
_LOAD_NAMES = _numbers("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")  # used in class bodies within a function
_STORE_GLOBALS = _numbers("STORE_GLOBAL", "DELETE_GLOBAL")
_STORE_CELLS = _numbers("STORE_DEREF", "DELETE_DEREF")
_IMPORT_NAME = opmap["IMPORT_NAME"]
_OF_INTEREST = _LOAD_NAMES | _STORE_GLOBALS | _STORE_CELLS | {_LOAD_GLOBAL, _IMPORT_NAME}
