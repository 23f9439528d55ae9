"""Finds out whether an input may be at its end while results to come could still make it longer.

A program may append to a list that it maps (`todo.extend(found)`), and the builtin reads what was appended, because it
asks for the next item only when the result before it was handed out. Code that reads ahead must not ask an exhausted
list for an item, because the list's iterator then stays exhausted. So this module looks, before each pull, whether some
list below the input's iterators has nothing left at the moment. If so, the list is asked only when all results were
handed out, as the builtin would ask it.

Lists are found below exact builtin iterators (`enumerate`, `zip`, `map`, `filter`, those of `itertools`) and below
generators. They are found as the garbage collector finds them, so no code of the user's runs. Of the lists that a
generator loops over, only those count that other code may hold as well: its arguments, what it closes over, its
globals, and the attributes of all these.
"""

from __future__ import annotations

import gc
from functools import lru_cache
from itertools import chain
from opcode import opmap
from operator import length_hint
from types import CodeType, GeneratorType

from ..code.bytecode import outer_names
from ..code.iterators import held_by, holds, is_wrapper, parts
from ..errors import let_signals_through
from ..lean import map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["Ends"]

_LIST_ITERATOR: type = type(iter([]))
_GROWING: tuple[type, ...] = (_LIST_ITERATOR, type(iter(type("Places", (), {"__getitem__": None})())))
_TUPLE_ITERATOR: type = type(iter(()))
# Nothing can be added to these.
_FIXED: tuple[type, ...] = (tuple, range, str, bytes)
# How many levels of iterators inside iterators are searched.
_DEPTH = 8
# A chain of more lists than this is taken to be one input made of parts: the end of each part is not waited for,
# because so many pauses would take longer than the work.
_FEW = 4
# For how many lists the answer is kept whether other code than the generator may hold them.
_KEPT = 8
_LOOPING = frozenset(opmap[name] for name in ("FOR_ITER", "GET_YIELD_FROM_ITER") if name in opmap)
_CO_VARARGS, _CO_VARKEYWORDS = 4, 8


class Ends:
    """Looks at the ends of one call's inputs.

    Args:
        iterables: the inputs.
        iterators: what `iter` gave for each.
    """

    def __init__(self, iterables: Iterable[Any], iterators: Iterable[Iterator[Any]]) -> None:
        self._sized: list[Any] = []
        self._known_length = -1
        self._iterators: list[Iterator[Any]] = []
        self._shared: dict[int, tuple[Iterator[Any], bool]] = {}
        # The generator that was last looked at, how many objects it held, and its innermost loop's place and iterator.
        self._innermost: tuple[Any, int, int, Any] = (None, 0, 0, None)
        self._lists: list[list[Any]] = []
        self._noted: list[tuple[list[Any], int]] = []
        for iterable, iterator in zip(iterables, iterators, strict=True):
            kind = type(iterator)
            if type(iterable) in _FIXED:
                continue
            if kind is GeneratorType:
                self._iterators.extend(_read_by(iterator))
            elif kind is _LIST_ITERATOR or is_wrapper(kind):
                self._iterators.append(iterator)
            sized = hasattr(type(iterable), "__len__") and not hasattr(type(iterable), "__next__")
            if sized and kind is not _LIST_ITERATOR:
                self._sized.append(iterable)

    def watches(self) -> bool:
        """Say whether there is anything to look at."""
        return bool(self._iterators or self._sized)

    def may_be_near(self, index: int) -> bool:
        """Say whether, after `index` items, the next pull may find a list that has nothing left for now."""
        for iterator in self._iterators:
            if self._is_near(iterator, _DEPTH):
                return True
        return bool(self._sized) and index >= self._known_length and self._all_read(index)

    def disbelieve(self) -> None:
        """Stop asking the inputs for their lengths: they said that there was no item left, and there was one."""
        self._sized.clear()

    def look(self) -> None:
        """Remember which lists are being read, because a pull may skip what is left of a list and reach its end."""
        self._lists = [each for iterator in self._iterators for each in _lists_below(iterator, _DEPTH)]

    def note(self) -> None:
        """Note how long the lists are, now that the input has ended while results were still to come."""
        self._noted = [(each, len(each)) for each in self._lists]

    def has_grown(self) -> bool:
        """Say whether a list that was noted has become longer."""
        return any(len(each) > length for each, length in self._noted)

    def _all_read(self, index: int) -> bool:
        try:
            self._known_length = min(map(len, self._sized))
        except Exception as error:  # the user's `__len__`
            let_signals_through(error)
            self._sized.clear()
            return False
        return index >= self._known_length

    def _is_near(self, iterator: Any, depth: int, generator: Any = None) -> bool:
        """Say whether a list may be at its end when `iterator` is asked next.

        Args:
            iterator: is looked at, and the iterators that it reads from.
            depth: how many levels of them.
            generator: who loops over the iterator, if anyone; then only lists count that other code may hold as well.
        """
        kind = type(iterator)
        if kind in _GROWING:
            # An iterator that refers to nothing is exhausted for good.
            if length_hint(iterator, 1) or not gc.get_referents(iterator):
                return False
            return generator is None or self._is_shared(iterator, generator)
        if not depth:
            return False
        if kind is GeneratorType:
            return self._is_generator_near(iterator, depth - 1)
        if kind is chain:
            return self._is_chain_near(holds(iterator), depth - 1, generator)
        return is_wrapper(kind) and any(self._is_near(part, depth - 1, generator) for part in parts(iterator))

    def _is_chain_near(self, held: list[Any], depth: int, generator: Any) -> bool:
        # The first object that a chain holds gives it its iterators; the last is the iterator it reads at present. The
        # first is not asked before the last has ended.
        if not held or not self._is_near(held[-1], depth, generator):
            return False
        few = type(held[0]) is _TUPLE_ITERATOR and all(len(each) <= _FEW for each in gc.get_referents(held[0]))
        return few or not length_hint(held[0], 1)

    def _is_generator_near(self, generator: Any, depth: int) -> bool:
        held = held_by(generator)
        owner, length, place, innermost = self._innermost
        if owner is generator and length == len(held) and held[place] is innermost and length_hint(innermost, 1):
            return False  # the same iterator as before: it has something left, or it does not tell
        # The innermost loop's iterator lies on top; an outer loop's is asked only when the inner one has ended.
        for place in range(len(held) - 1, -1, -1):
            part = held[place]
            kind = type(part)
            if not hasattr(kind, "__next__"):
                continue
            handed_in = is_wrapper(kind) and any(part is value for value in _outer_values(generator))
            if self._is_near(part, depth, None if handed_in else generator):
                return True
            if kind.__module__ != "builtins" or kind is GeneratorType or length_hint(part, 1):
                if kind in _GROWING or _never_tells(kind):
                    self._innermost = generator, len(held), place, part
                return False
        return False

    def _is_shared(self, iterator: Iterator[Any], generator: Any) -> bool:
        """Say whether other code than the generator may hold the list that the generator loops over."""
        known = self._shared.get(id(iterator))
        if known is not None and known[0] is iterator:
            return known[1]
        lists = (iterator, *gc.get_referents(iterator))
        shared = any(value is each for value in _outer_values(generator) for each in lists)
        if len(self._shared) >= _KEPT:
            self._shared.clear()
        self._shared[id(iterator)] = iterator, shared
        return shared


def _never_tells(kind: type) -> bool:
    """Say whether iterators of a type tell nothing of their end, and read from no other iterators that do."""
    return not hasattr(kind, "__length_hint__") and kind is not GeneratorType and not is_wrapper(kind)


def _read_by(generator: Any) -> list[Any]:
    """Return what to look at before a generator is asked: the generator, or less if its code has at most one loop."""
    loops = _loops(generator.gi_code)
    if loops == 0:
        return []
    if loops == 1 and generator.gi_code.co_name == "<genexpr>" and generator.gi_frame is not None:
        source = generator.gi_frame.f_locals.get(".0")
        kind = type(source)
        if kind in _GROWING or is_wrapper(kind):
            return [source]
        if kind is GeneratorType:
            return _read_by(source)
        if hasattr(kind, "__next__"):
            return []
    return [generator]


@lru_cache(maxsize=256)
def _loops(code: CodeType) -> int:
    """Return how many loops over iterators a code object has; `yield from` counts as one."""
    return sum(operation in _LOOPING for operation in code.co_code[::2])


def _lists_below(iterator: Any, depth: int) -> Iterator[list[Any]]:
    kind = type(iterator)
    if kind is _LIST_ITERATOR:
        yield from gc.get_referents(iterator)
    elif depth and (kind is GeneratorType or is_wrapper(kind)):
        for part in held_by(iterator) if kind is GeneratorType else parts(iterator):
            yield from _lists_below(part, depth - 1)


def _outer_values(generator: GeneratorType[Any, Any, Any]) -> Iterator[object]:
    """Yield what a generator may share with others: arguments, closure, the globals it names; and their attributes."""
    frame = generator.gi_frame
    if frame is None:
        return
    code: CodeType = generator.gi_code
    flags = bool(code.co_flags & _CO_VARARGS) + bool(code.co_flags & _CO_VARKEYWORDS)
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + flags]
    local, names = frame.f_locals, outer_names(code)
    values = [local[name] for name in (*arguments, *code.co_freevars) if name in local]
    values += [frame.f_globals[name] for name in names.read if name in frame.f_globals]
    yield from values
    for value in values:
        # The attributes are read past the object's own `__getattribute__`, so that no code of the user's runs.
        attributes = object.__getattribute__(value, "__dict__") if type(value).__dictoffset__ else None
        if type(attributes) is dict:
            yield from (attributes[name] for name in names.mentioned if name in attributes)
