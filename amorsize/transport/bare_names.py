"""Objects that pickle themselves by a bare name, and stand in the caller's main module, which no worker has.

The pickle of a cached function, a single-dispatch function, a `NewType` or a sentinel says only "I am `__main__.name`".
So a worker rebuilds such an object from its parts, once for each function that it is sent, and has only this one object
of that name. On the way back the name is enough. An object that cannot be rebuilt in this way is refused before
anything is sent.
"""

from __future__ import annotations

import pickle
from functools import singledispatch, update_wrapper

from . import by_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["is_bare", "reduce_bare"]

_PROTOCOL = 5


def is_bare(kind: type) -> bool:
    """Say whether objects of a class may pickle themselves by a name, because it defines its own reduction."""
    return any(getattr(kind, name) is not getattr(object, name) for name in ("__reduce__", "__reduce_ex__"))


def reduce_bare(value: Any, way: Any) -> Any:
    """Return how to pickle an object with a reduction of its own.

    Args:
        value: the object.
        way: the direction that it is pickled for, an `Outgoing` or one of its relatives.
    """
    # Single-dispatch functions are plain functions, which are pickled by their qualified name.
    name = value.__qualname__ if _is_dispatch(value) else value.__reduce_ex__(_PROTOCOL)
    if not isinstance(name, str):
        return name
    module = getattr(value, "__module__", None)
    found = by_value.find(module, name)
    space = by_value.here()
    if space is not None and space.named.get(("__main__", name)) is value:
        return _callers_object, (name,)
    if found is value and module != "__main__":
        return _rebuilt(value, "") if (module, name) in way.outdated else name
    if by_value.find("__main__", name) is value:
        return (_callers_object, (name,)) if way.returning else _rebuilt(value, name)
    if found is value or _builder(value) is None:
        return name
    return _rebuilt(value, "")  # it was made inside a function, so no name leads to it


def _rebuilt(value: Any, name: str) -> tuple[Any, ...]:
    if hasattr(value, "_name_") and hasattr(type(value), "__members__"):  # an enum's member
        return getattr, (type(value), value._name_)
    builder = _builder(value)
    if builder is not None:
        make, arguments, state = builder(value)
    elif hasattr(value, "__dict__"):
        make, arguments, state = _new_object, (type(value),), (_set_attributes, dict(vars(value)))
    else:
        raise pickle.PicklingError(f"{name} of the main module pickles itself by its name, which no worker has")
    return _make, (name, make, arguments), state, None, None, _set


def _builder(value: Any) -> Callable[[Any], tuple[Any, ...]] | None:
    if _is_dispatch(value):
        return _take_dispatch_apart
    if hasattr(value, "cache_parameters") and type(value).__module__ == "functools":
        return _take_cache_apart
    return None


def _is_dispatch(value: Any) -> bool:
    return hasattr(value, "_clear_cache") and hasattr(value, "registry") and hasattr(value, "dispatch")


def _take_cache_apart(cached: Any) -> tuple[Any, ...]:
    parameters = cached.cache_parameters()
    return _make_cached, (parameters["maxsize"], parameters["typed"]), (_set_cached, cached.__wrapped__)


def _take_dispatch_apart(function: Any) -> tuple[Any, ...]:
    return _make_dispatch, (), (_set_dispatch, dict(function.registry))


# The reader's side: an object is made first and given its parts afterwards, because it may be one of its own parts.

_unset: dict[int, Any] = {}


def _make(name: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    space = by_value.here()
    if not name:
        made = make(*arguments)
    elif space is None:
        return _callers_object(name)
    else:
        found = space.named.get(("__main__", name))
        if found is not None:
            return found
        made = space.named["__main__", name] = make(*arguments)
    _unset[id(made)] = made
    return made


def _set(made: Any, state: tuple[Callable[[Any, Any], None], Any]) -> None:
    if _unset.pop(id(made), None) is made:
        state[0](made, state[1])


def _callers_object(name: str) -> Any:
    """Return what stands under a name in the caller's main module; in a worker, return what was rebuilt of it."""
    space = by_value.here()
    found = space.named.get(("__main__", name)) if space is not None else None
    if found is None:
        found = by_value.find("__main__", name)
    if found is None:
        raise pickle.UnpicklingError(f"the main module has no {name}")
    return found


def _new_object(cls: type) -> Any:
    return object.__new__(cls)


def _set_attributes(made: Any, attributes: dict[str, Any]) -> None:
    made.__dict__.update(attributes)


class _Later:
    """Stands for a function that will be set later."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]  # `_set_cached` and its like set it


def _make_cached(maxsize: int | None, typed: bool) -> Any:
    from functools import lru_cache

    return lru_cache(maxsize, typed)(_Later())


def _set_cached(cached: Any, function: Any) -> None:
    cached.__wrapped__.__wrapped__ = function
    update_wrapper(cached, function)


def _make_dispatch() -> Any:
    return singledispatch(_Later())


def _set_dispatch(dispatch: Any, registry: dict[type, Any]) -> None:
    later = dispatch.__wrapped__
    for kind, function in registry.items():
        if kind is object:
            later.__wrapped__ = function
            update_wrapper(dispatch, function)
        else:
            dispatch.register(kind, function)


