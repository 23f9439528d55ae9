"""Are two values the same answer, and if not, where do they differ?

Both must have the same type and value, all the way down. NaN is the same as NaN, and floats may differ by rounding. An
object is the same as another one if its class says so, or if the two would be pickled from the same parts; so objects
without `__eq__` count by their state, and dataclasses with a NaN inside are no trouble. What an object computed of
itself and keeps (`cached_property`) does not count, nor what a dataclass says it does not compare. Exceptions count by
type, arguments and attributes, functions by their code and what they hold.
"""

from __future__ import annotations

import sys
from cmath import isclose, isnan
from collections import OrderedDict, defaultdict, deque
from itertools import count
from operator import eq
from types import CellType, CodeType, FunctionType

from ..errors import let_signals_through
from ..lean import NamedTuple, map
from .values import SCALARS, holds_iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["Difference", "Incomparable", "difference"]

# Floats that differ by no more than this share of the larger are the same: sums may be taken in another order.
_ROUNDING = 1e-12
# Members of sets that are not equal to any of the other set are compared in pairs, if there are no more than so many.
_MOST_PAIRED = 64
# All such trials of one comparison take no more steps than this, because trials hold trials. With a larger value a call
# may stand still for longer; with a smaller one fewer large sets can be compared.
_MOST_STEPS = 100_000
# What we, and the interpreter, add to an error on its way.
_OF_THE_WAY = frozenset({"amorsize_index", "__notes__"})
# What a pandas object has beside its values.
_LABELS = ("columns", "index", "name", "names", "attrs")
_TABLES = frozenset({"pandas", "polars", "pyarrow"})


class Incomparable(Exception):
    """Says that two values can be neither equal nor different: they have no state that could be seen."""


class Difference(NamedTuple):
    """Where two values differ.

    Attributes:
        where: the way to the part that differs, as code would write it; "" for the whole.
        first, again: that part of either value.
    """

    where: str
    first: Any
    again: Any


def difference(first: object, again: object) -> Difference | None:
    """Return where two values differ; None if they are the same.

    Raises:
        Incomparable: that cannot be told.

    >>> difference({"a": [1.0, float("nan")]}, {"a": [1.0 + 1e-15, float("nan")]})
    >>> difference([1, (2, 3)], [1, (2, 4)]).where
    '[1][1]'
    """
    try:
        return _Comparing().compare(first, again, "")
    except RecursionError as error:
        raise Incomparable("it is nested too deeply") from error


class _Comparing:
    """One comparison, which remembers the pairs that it has met, because values may contain themselves.

    Args:
        tried_by: the comparison for which this one finds out whether two members of sets are a pair.
    """

    def __init__(self, tried_by: _Comparing | None = None) -> None:
        # With the pairs themselves, which so stay as they are.
        self._met: dict[tuple[int, int], tuple[Any, Any]] = {} if tried_by is None else dict(tried_by._met)
        self._steps: Iterator[int] = iter(range(_MOST_STEPS)) if tried_by is None else tried_by._steps
        self._is_trial = tried_by is not None

    def compare(self, first: Any, again: Any, where: str) -> Difference | None:
        if first is again:
            return None
        kind = type(first)
        if kind is not type(again):
            return Difference(where, first, again)
        if kind in _NUMBERS:
            return None if _are_close(first, again) else Difference(where, first, again)
        if kind in SCALARS:
            return None if first == again else Difference(where, first, again)
        if (id(first), id(again)) in self._met:
            return None
        self._met[id(first), id(again)] = first, again
        if self._is_trial and next(self._steps, None) is None:
            raise Incomparable("it has sets of too many objects")
        for is_one, compared in _KINDS:
            if is_one(first):
                return compared(self, first, again, where)
        return self._objects(first, again, where)

    def _all(self, first: Iterable[Any], again: Iterable[Any], where: str) -> Difference | None:
        for at, one, other in zip(count(), first, again, strict=False):
            if (found := self.compare(one, other, f"{where}[{at}]")) is not None:
                return found
        return None

    def _sequences(self, first: Any, again: Any, where: str) -> Difference | None:
        if len(first) != len(again):
            return Difference(where, first, again)
        return self._all(first, again, where) or self._attributes(first, again, where)

    def _mappings(self, first: Any, again: Any, where: str) -> Difference | None:
        if len(first) != len(again):
            return Difference(where, first, again)
        if isinstance(first, OrderedDict) or not all(key in again for key in first):
            # A NaN among the keys is found in no other dict, but at the same place.
            for key, other in zip(first, again, strict=True):
                if self.compare(key, other, where) is not None:
                    return Difference(where, first, again)
            others = list(again.values())
        else:
            others = [again[key] for key in first]
        if isinstance(first, defaultdict) and self.compare(first.default_factory, again.default_factory, ""):
            return Difference(f"{where}.default_factory", first.default_factory, again.default_factory)
        for (key, one), other in zip(first.items(), others, strict=True):
            if (found := self.compare(one, other, f"{where}[{key!r}]")) is not None:
                return found
        return self._attributes(first, again, where)

    def _sets(self, first: Any, again: Any, where: str) -> Difference | None:
        if len(first) != len(again):
            return Difference(where, first, again)
        here, there = list(first - again), list(again - first)
        if len(here) != len(there) or any(map(_is_exact, here)):
            return Difference(where, first, again)
        if all(type(one) is float for one in (*here, *there)):
            here, there = sorted(here, key=_by_size), sorted(there, key=_by_size)
            if self._all(here, there, where) is not None:
                return Difference(where, first, again)
        elif len(here) > _MOST_PAIRED:
            if any(map(_judges, here)):
                return Difference(where, first, again)
            raise Incomparable(f"it has a set of more than {_MOST_PAIRED} objects")
        elif not all(self._takes_mate(one, there) for one in here):
            return Difference(where, first, again)
        return self._attributes(first, again, where)

    def _takes_mate(self, one: Any, others: list[Any]) -> bool:
        """Take the first of some objects that is the same as this one out of them; say whether there is any."""
        for at, other in enumerate(others):
            trial = _Comparing(self)
            if trial.compare(one, other, "") is None:
                self._met = trial._met
                del others[at]
                return True
        return False

    def _errors(self, first: BaseException, again: BaseException, where: str) -> Difference | None:
        if self.compare(first.args, again.args, where) is not None:
            return Difference(where, first, again)
        held, left = map(_own_attributes, (first, again))
        return self._named(held, left, where, type(first))

    def _functions(self, first: FunctionType, again: FunctionType, where: str) -> Difference | None:
        held, left = map(_parts_of_function, (first, again))
        return None if self._all(held, left, where) is None else Difference(where, first, again)

    def _cells(self, first: Any, again: Any, where: str) -> Difference | None:
        return self.compare(_contents(first), _contents(again), where)

    def _classes(self, first: type, again: type, where: str) -> Difference | None:
        names = [(one.__module__, one.__qualname__) for one in (first, again)]
        return None if names[0] == names[1] else Difference(where, first, again)

    def _arrays(self, first: Any, again: Any, where: str) -> Difference | None:
        numpy: Any = sys.modules["numpy"]
        if first.dtype != again.dtype or first.shape != again.shape:
            return Difference(where, first, again)
        one, other = numpy.asarray(first), numpy.asarray(again)
        if isinstance(first, numpy.generic):
            return None if _are_arrays_same(numpy, one, other) else Difference(where, first, again)
        if first.dtype.names:
            names = first.dtype.names
            found = self._all([one[name] for name in names], [other[name] for name in names], where)
        elif first.dtype.hasobject:
            found = self._all(one.ravel().tolist(), other.ravel().tolist(), where)
        else:
            found = None if _are_arrays_same(numpy, one, other) else Difference(where, first, again)
        return found or self._attributes(first, again, where)

    def _tables(self, first: Any, again: Any, where: str) -> Difference | None:
        if type(first).__module__.partition(".")[0] != "pandas":
            return None if first.equals(again) else Difference(where, first, again)
        names = [name for name in _LABELS if hasattr(type(first), name)]  # a column may have such a name as well
        here, there = ([getattr(table, name) for name in names] for table in (first, again))
        found = self._all(here, there, where)
        if found is None and not first.equals(again):
            held, left = map(_columns_of, (first, again))
            found = Difference(where, first, again) if len(held) != len(left) else self._all(held, left, where)
        return None if found is None else Difference(where, first, again)

    def _attributes(self, first: Any, again: Any, where: str) -> Difference | None:
        """Compare what objects of a subclass of a container have beside their elements."""
        return self._named(_beside_elements(first), _beside_elements(again), where, type(first))

    def _named(
        self, first: dict[str, Any], again: dict[str, Any], where: str, kind: type = object
    ) -> Difference | None:
        """Compare attributes, but for those that do not count for objects of this class."""
        if ignored := _ignored(kind, first, again):
            first, again = ({name: held[name] for name in held.keys() - ignored} for held in (first, again))
        if first.keys() != again.keys():
            return Difference(where, first, again)
        for name, value in first.items():
            if (found := self.compare(value, again[name], f"{where}.{name}")) is not None:
                return found
        return None

    def _objects(self, first: Any, again: Any, where: str) -> Difference | None:
        kind: Any = type(first)
        if kind.__eq__ is not object.__eq__ and not _is_generated_for(kind):
            try:
                if (first == again) is True:
                    return None
            except Exception as error:  # the user's class; its state is still to be compared
                let_signals_through(error)
        # The look at attributes gives some objects an empty dict of them, so it is taken at both.
        if any([holds_iterator(first), holds_iterator(again)]):
            raise Incomparable(f"a {kind.__name__} is or holds an iterator")
        if kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__:
            plain = not any(hasattr(kind, name) for name in ("__slots__", "__setstate__", "__getnewargs__"))
            if plain and type(getattr(first, "__dict__", None)) is dict:
                return self._named(vars(first), vars(again), where, kind)
        held, left = _reduced(first), _reduced(again)
        if isinstance(held, str) or isinstance(left, str):
            return None if held == left else Difference(where, first, again)
        found = self._all(held[:-1], left[:-1], where) or self._states(held[-1], left[-1], kind)
        return None if found is None else Difference(where, first, again)

    def _states(self, first: Any, again: Any, kind: type) -> Difference | None:
        """Compare what two objects keep: their attributes, those and their slots, or whatever their class says."""
        for at, (held, left) in enumerate(zip(_parts_of_state(first), _parts_of_state(again), strict=False)):
            named = type(held) is dict and type(left) is dict and all(type(key) is str for key in (*held, *left))
            found = self._named(held, left, "", kind) if named else self.compare(held, left, f"[{at}]")
            if found is not None:
                return found
        return None


def _own_attributes(error: BaseException) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name not in _OF_THE_WAY}


def _parts_of_function(function: FunctionType) -> tuple[Any, ...]:
    return function.__code__, function.__defaults__, function.__kwdefaults__, function.__closure__, vars(function)


def _reduced(value: Any) -> Any:
    """Return what a value would be pickled from.

    Raises:
        Incomparable: it cannot be pickled.
    """
    import copyreg

    try:
        parts = value.__reduce_ex__(4)
        if isinstance(parts, str):
            return parts
        maker, arguments, *rest = parts
        rest = [None if part is None or at not in {1, 2} else list(part) for at, part in enumerate(rest)]
        state = parts[2] if len(parts) > 2 else None
    except Exception as error:  # the user's class
        let_signals_through(error)
        raise Incomparable(f"a {type(value).__name__} has no state that can be seen: {error!r}") from error
    return (None if maker is vars(copyreg)["__newobj__"] else maker, arguments, rest[1:], state)


def _parts_of_state(state: Any) -> tuple[Any, Any]:
    """Return a state's attributes and slots, or the whole and None.

    An object without attributes has no dict of them, and one that has lost them all an empty one.
    """
    if type(state) is tuple and len(state) == 2 and all(part is None or type(part) is dict for part in state):
        return state[0] or {}, state[1] or {}
    return ({} if state is None else state), {}


def _beside_elements(container: Any) -> dict[str, Any]:
    """Return the attributes and slots of an object of a subclass of a container."""
    held = dict(getattr(container, "__dict__", None) or {})
    for kind in type(container).__mro__:
        names = vars(kind).get("__slots__", ()) if kind.__module__ != "builtins" else ()
        for name in (names,) if isinstance(names, str) else names:
            private = name.startswith("__") and not name.endswith("__")
            called = f"_{kind.__name__.lstrip('_')}{name}" if private else name
            if name not in {"__dict__", "__weakref__"} and hasattr(container, called):
                held[called] = getattr(container, called)
    return held


def _ignored(kind: type, first: dict[str, Any], again: dict[str, Any]) -> set[str]:
    """Return the names of the attributes that do not count for objects of this class."""
    one_side = {
        name
        for name in first.keys() ^ again.keys()
        if type(name) is str and type(getattr(kind, name, None)).__name__ == "cached_property"
    }
    fields: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
    return one_side | {name for name, field in fields.items() if not field.compare}


def _is_generated_for(kind: Any) -> bool:
    """Say whether a class has the `__eq__` that `dataclass` makes, which knows nothing of NaN, types or rounding."""
    file = getattr(getattr(kind.__eq__, "__code__", None), "co_filename", "")
    return hasattr(kind, "__dataclass_fields__") and file == "<string>"


def _is_exact(value: Any) -> bool:
    """Say whether a value is equal to all that are the same."""
    if type(value) in {tuple, frozenset}:
        return all(map(_is_exact, value))
    return type(value) in SCALARS and type(value) not in _NUMBERS


def _judges(value: Any) -> bool:
    """Say whether a value's class, rather than its state, says what it is equal to."""
    kind: Any = type(value)
    if kind.__eq__ in {tuple.__eq__, frozenset.__eq__}:
        return all(map(_judges, value))
    told = kind.__eq__ is not object.__eq__ and kind not in _NUMBERS and not _is_generated_for(kind)
    return told and bool(eq(value, value))  # a NaN of any class is not


def _by_size(number: float) -> tuple[bool, float]:
    return (True, 0.0) if isnan(number) else (False, number)


def _columns_of(table: Any) -> list[Any]:
    """Return the values of a pandas object as arrays."""
    if getattr(table, "ndim", 1) != 2:
        return [table.dtype, table.to_numpy()]
    columns = [table.iloc[:, at] for at in range(table.shape[1])]
    return [part for column in columns for part in (column.dtype, column.to_numpy())]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable is not assigned
        return None


def _are_close(first: complex, again: complex) -> bool:
    if first == again:
        return True
    if type(first) is float and (isnan(first) or isnan(again)):
        return isnan(first) and isnan(again)
    if isnan(first) or isnan(again):
        return all(map(_are_close, (first.real, first.imag), (again.real, again.imag)))
    return isclose(first, again, rel_tol=_ROUNDING)


def _are_arrays_same(numpy: Any, first: Any, again: Any) -> bool:
    if first.dtype.kind in "fc":
        return bool(numpy.isclose(first, again, rtol=_ROUNDING, atol=0.0, equal_nan=True).all())
    if first.dtype.kind in "mM":
        return bool(((first == again) | (numpy.isnat(first) & numpy.isnat(again))).all())
    return bool(numpy.array_equal(first, again)) if first.dtype.kind != "V" else first.tobytes() == again.tobytes()


def _is_array(value: object) -> bool:
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def _is_table(value: object) -> bool:
    kind = type(value)
    return kind.__module__.partition(".")[0] in _TABLES and callable(getattr(kind, "equals", None))


def _of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


_NUMBERS = frozenset({float, complex})
_KINDS: tuple[tuple[Callable[[object], bool], Callable[..., Difference | None]], ...] = (
    (_is_array, _Comparing._arrays),
    (_is_table, _Comparing._tables),
    (_of(list, tuple, deque), _Comparing._sequences),
    (_of(dict), _Comparing._mappings),
    (_of(set, frozenset), _Comparing._sets),
    (_of(BaseException), _Comparing._errors),
    (_of(FunctionType), _Comparing._functions),
    (_of(CellType), _Comparing._cells),
    (_of(CodeType), lambda _, first, again, where: None if first == again else Difference(where, first, again)),
    (_of(type), _Comparing._classes),
)
