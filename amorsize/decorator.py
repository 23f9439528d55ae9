"""How does a function carry its own parallel map? `@parallelize` wraps it in an object that is called as before.

The object keeps the plain function, which is what workers run, and the options given at the decoration. Giving it other
options, or binding it as a method, makes a new object that remembers how it was derived. The new object is pickled as
the name of the first one and the way to derive it from there.
"""

from __future__ import annotations

import sys

from .call.stream import last_report, start
from .code.coroutines import is_coroutine_function
from .errors import UnsupportedError
from .lean import Generic, MethodType, ParamSpec, TypeVar, overload, partial, public, update_wrapper
from .options import Options, check, resolve
from .runners import runs_items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Concatenate

    from typing_extensions import Unpack

    from .advise import OptimizedPlan
    from .call.astream import AsyncStream
    from .call.noted import Brief, Noted
    from .call.stream import Stream
    from .options import GivenOptions
    from .report.report import Report

__all__ = ["Parallelized", "ParallelizedOver", "parallelize"]

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_S = TypeVar("_S")
# These are bits of `__code__.co_flags`. Asking `inspect` instead would cost every user of the decorator its import.
_ASYNC_GENERATOR = 0x200


@public
class Parallelized(Generic[_P, _R]):
    """A function that can map itself over items. `parallelize` makes it; calling it is calling the plain function.

    It has the name, docstring and signature of the plain function, which is also at `__wrapped__`. In a class it binds
    as a method does: `cart.price.map(amounts)`. It is pickled by name, as functions are.

    >>> import amorsize
    >>> @amorsize.parallelize
    ... def double(number):
    ...     return 2 * number
    >>> double(4), list(double.map([1, 2, 3]))
    (8, [2, 4, 6])
    """

    __wrapped__: Callable[_P, _R]  # update_wrapper fills it in, with the name and the docstring

    def __init__(self, function: Callable[_P, _R], options: Mapping[str, Any]) -> None:
        update_wrapper(self, function)
        self._function = function
        self._options = options
        self._origin: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self._last: list[Noted | Brief] = []

    @property
    def _amorsize_function(self) -> Callable[_P, _R]:
        return self._function

    def _amorsize_undecorated(self) -> tuple[Callable[..., Any], Mapping[str, Any]]:
        """Return the function that `amorsize.map` runs when it is given this object, and the options to run it with."""
        return self._function, self._options

    @runs_items()
    def __call__(self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self._function(*args, **kwargs)

    def map(self, iterable: Iterable[Any], /, *iterables: Iterable[Any], **constants: Any) -> Stream[_R]:
        """Apply the function to every item, as `amorsize.map` does, with the decorator's options.

        Args:
            iterable: the items, for the function's first parameter.
            *iterables: further arguments, item by item.
            **constants: the function's own keyword arguments, the same for every item. Options go to `with_options`.

        Returns:
            A lazy iterator, as from `amorsize.map`. Dropping it without asking for any result gives a `RuntimeWarning`.

        Raises:
            TypeError: an input is not iterable, or an option was given where constants go.
            UnsupportedError: as for `amorsize.map`.
        """
        return self._start((iterable, *iterables), constants, star=False)

    def starmap(self, iterable: Iterable[Iterable[Any]], /, **constants: Any) -> Stream[_R]:
        """Apply the function to argument tuples, as `amorsize.starmap` does, with the decorator's options.

        Args:
            iterable: yields the arguments of each call.
            **constants: the function's own keyword arguments, the same for every call.

        Returns:
            A lazy iterator, as from `map`.

        Raises:
            TypeError, UnsupportedError: as for `map`.
        """
        return self._start((iterable,), constants, star=True)

    @property
    def report(self) -> Report | None:
        """What the last `map` or `starmap` that has ended did, as a stream's `report`; None if there was none."""
        return last_report(self._last)

    def with_options(self, /, **options: Unpack[GivenOptions]) -> Parallelized[_P, _R]:
        """Return the same function with further options, which win over those of the decorator.

        Args:
            **options: as for `amorsize.map`.

        Raises:
            TypeError, ValueError: an option is unknown or unfit.
        """
        from operator import methodcaller

        given = check(options, "with_options")
        derived = self._derive(self._function, {**self._options, **given})
        derived._origin = methodcaller("with_options", **given), (self,)
        return derived

    def optimize(
        self, data: Iterable[Any], /, *, profile: bool = False, **options: Unpack[GivenOptions]
    ) -> OptimizedPlan:
        """Plan how to run the function over `data` with a pool of your own, as `amorsize.optimize` does.

        Args:
            data: the items.
            profile: whether the plan should carry what was measured.
            **options: as for `amorsize.map`; they win over those of the decorator.

        Returns:
            The plan, with the input given back in `plan.data`.

        Raises:
            TypeError, ValueError: as for `amorsize.optimize`.
        """
        from .advise import optimize

        return optimize(self._function, data, profile=profile, **{**self._options, **options})

    @overload
    def __get__(self, instance: None, owner: type, /) -> Parallelized[_P, _R]: ...
    @overload
    def __get__(
        self: Parallelized[Concatenate[_S, _Q], _R], instance: _S, owner: type | None = None, /
    ) -> Parallelized[_Q, _R]: ...
    def __get__(self, instance: Any, owner: Any = None, /) -> Any:
        # What is wrapped binds as it always does, be it a function, a classmethod, or a callable that never binds.
        bind = getattr(type(self._function), "__get__", None)
        bound = self._function if bind is None else bind(self._function, instance, owner)
        if bound is self._function:
            return self
        derived = self._derive(bound, self._options)
        derived._last = self._last  # a method is bound anew whenever it is named
        name = getattr(self._function, "__name__", None)
        if name is not None:
            derived._origin = getattr, (owner if instance is None else instance, name)
        return derived

    def __reduce__(self) -> str | tuple[Any, ...]:
        name: str | None = getattr(self, "__qualname__", None)
        if self._origin is None and name is not None:
            found: object = sys.modules.get(self.__module__)
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is self:
                return name
        return self._amorsize_reduce_by_value()

    def _amorsize_reduce_by_value(self) -> tuple[Any, ...]:
        """Reduce with the function itself instead of its name, for a reader that has another main module."""
        return self._origin or (type(self), (self._function, self._options))

    def __repr__(self) -> str:
        return f"<parallelized {self._function!r}>"

    def _derive(self, function: Callable[..., Any], options: Mapping[str, Any]) -> Parallelized[Any, Any]:
        return type(self)(function, options)

    def _start(self, iterables: tuple[Iterable[Any], ...], constants: dict[str, Any], *, star: bool) -> Stream[_R]:
        stream = start(self._with(constants), iterables, resolve(decorated=self._options), star=star)
        stream.tell_at_end(self._last)
        stream.warn_if_never_iterated(f"{_label(self._function)}.{'starmap' if star else 'map'}")
        return stream

    def _with(self, constants: dict[str, Any]) -> Callable[..., _R]:
        """Return the function with some of its own keyword arguments."""
        if not constants:
            return self._function
        self._refuse_options(constants)
        return partial(self._function, **constants)

    def _refuse_options(self, constants: dict[str, Any]) -> None:
        """Refuse an option among the function's own arguments at the call, where the slip is, not at the first item."""
        suspects = constants.keys() & set(Options._fields)
        if not suspects:
            return
        from inspect import Parameter

        parameters = _signature(self._function).parameters
        if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        for name in sorted(suspects - parameters.keys()):
            raise TypeError(
                f"{_label(self._function)}() has no parameter {name!r}; keywords of .map are the function's own, "
                f"options go to .with_options({name}=...)"
            )


class ParallelizedCoroutines(Parallelized[_P, _R]):
    """A coroutine function that can map itself over items. `parallelize` makes it; calling it gives a coroutine.

    `map` and `starmap` return asynchronous iterators, as `amorsize.amap` does.

    >>> import amorsize, asyncio
    >>> @amorsize.parallelize
    ... async def double(number):
    ...     return 2 * number
    >>> async def main():
    ...     return await double(4), [result async for result in double.map([1, 2, 3])]
    >>> asyncio.run(main())
    (8, [2, 4, 6])
    """

    def __init__(self, function: Callable[_P, _R], options: Mapping[str, Any]) -> None:
        super().__init__(function, options)
        mark = getattr(sys.modules.get("inspect"), "markcoroutinefunction", None)  # new in CPython 3.12
        if mark is not None:
            mark(self)

    def optimize(self, data: Iterable[Any], /, *, profile: bool = False, **options: Any) -> OptimizedPlan:
        """Refuse: there is no pool for coroutines.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{_label(self._function)} is a coroutine function, which no pool runs; use its .map")

    def _start(  # type: ignore[override]
        self, iterables: tuple[Iterable[Any], ...], constants: dict[str, Any], *, star: bool
    ) -> AsyncStream[Any]:
        from .call.astream import start_asynchronous

        function = self._with(constants)
        stream = start_asynchronous(function, iterables, resolve(decorated=self._options), star=star)
        stream.tell_at_end(self._last)
        stream.warn_if_never_iterated(f"{_label(self._function)}.{'starmap' if star else 'map'}")
        return stream


class ParallelizedOver(Parallelized[_P, _R]):
    """A function that maps over one of its parameters when it is called. `parallelize(over=...)` makes it.

    The call takes the function's own arguments, with an iterable in the place of that parameter, and returns a list.
    With `map`, `starmap` and `__wrapped__` the function takes single items, as any `Parallelized` does.

    >>> import amorsize
    >>> @amorsize.parallelize(over="word")
    ... def shout(word, mark):
    ...     return word.upper() + mark
    >>> shout(["map", "reduce"], mark="!")
    ['MAP!', 'REDUCE!']
    """

    def __init__(self, function: Callable[_P, _R], options: Mapping[str, Any], over: str) -> None:
        super().__init__(function, options)
        self._over = over
        if type(function) is MethodType:
            # A bound method would be pickled as getattr(object, name), which gives not the plain method but an object
            # of this class.
            self._function = partial(function.__func__, function.__self__)

    def __call__(self, /, *args: Any, **kwargs: Any) -> list[_R]:  # type: ignore[override]
        """Map over the parameter, with the other arguments constant.

        Raises:
            TypeError: the arguments do not fit the function, or text or a scalar stands where the items belong.
            Exception: whatever iterating over `amorsize.map` raises.
        """
        bound = _signature(self._function).bind(*args, **kwargs)
        items = bound.arguments.get(self._over)
        # This does not try `iter(items)`, because the call below makes the only iterator that there should be.
        iterable = hasattr(type(items), "__iter__") or hasattr(type(items), "__getitem__")
        if isinstance(items, (str, bytes, bytearray)) or not iterable:
            what = "nothing" if self._over not in bound.arguments else f"{type(items).__name__} {items!r}"
            raise TypeError(
                f"{_label(self._function)}() maps over {self._over!r} and needs an iterable there, not {what}; "
                "for one item, call .__wrapped__ or give a list of one"
            )
        function = _with_constants(self._function, bound, self._over)
        stream = start(function, (items,), resolve(decorated=self._options))
        stream.tell_at_end(self._last)
        return list(stream)

    def _amorsize_undecorated(self) -> tuple[Callable[..., Any], Mapping[str, Any]]:
        # The builtin map would call this object for each item, and the options are for the map within such a call.
        return self, {}

    def _amorsize_reduce_by_value(self) -> tuple[Any, ...]:
        return self._origin or (type(self), (self._function, self._options, self._over))

    def _derive(self, function: Callable[..., Any], options: Mapping[str, Any]) -> Parallelized[Any, Any]:
        return type(self)(function, options, self._over)


@overload
def parallelize(function: Callable[_P, _R], /) -> Parallelized[_P, _R]: ...
@overload
def parallelize(
    *, over: str, **options: Unpack[GivenOptions]
) -> Callable[[Callable[_P, _R]], ParallelizedOver[_P, _R]]: ...
@overload
def parallelize(
    *, over: None = None, **options: Unpack[GivenOptions]
) -> Callable[[Callable[_P, _R]], Parallelized[_P, _R]]: ...
@public
def parallelize(function: Any = None, /, *, over: str | None = None, **options: Any) -> Any:
    """Give a function its own parallel map; calls of the function stay what they were.

    It can be written bare or with options. The plain equivalent of `double.map(items)` is `map(double, items)`. In a
    class, it goes above `@classmethod`, and above or below `@staticmethod`.

    Args:
        function: a function, method or other callable; not a class. A coroutine function stays one, and its `map` and
            `starmap` return asynchronous iterators, as `amorsize.amap` does.
        over: name of a parameter. Calling the function then maps over this parameter, with the other arguments
            constant, and returns a list. None leaves calls alone.
        **options: as for `amorsize.map`; the options of a call win over these.

    Returns:
        A `Parallelized`, or a decorator that makes one.

    Raises:
        TypeError: what is decorated cannot be mapped, an option is unknown or of the wrong type, or `over` names no
            parameter.
        ValueError: an option is out of range.

    Not needed for a single use: `amorsize.map(function, items)` does the same.

    >>> import amorsize
    >>> @amorsize.parallelize(n_jobs=2)
    ... def area(width, height=1):
    ...     return width * height
    >>> area(3, 4), list(area.map([1, 2], height=10))
    (12, [10, 20])
    """
    if function is None:
        return partial(_decorate, check(options, "parallelize"), over)
    if over is not None or options:
        raise TypeError("parallelize() takes options alone: write @parallelize(...), or parallelize(...)(function)")
    return _decorate({}, None, function)


def _decorate(options: Mapping[str, Any], over: str | None, function: Any) -> Parallelized[Any, Any]:
    plain: Any = function.__func__ if isinstance(function, (classmethod, staticmethod)) else function
    _refuse_unfit(plain)
    if is_coroutine_function(plain):
        if over is not None:
            raise TypeError(f"over={over!r}: {_label(plain)} is a coroutine function; use .map, which is asynchronous")
        return ParallelizedCoroutines(function, options)
    if over is None:
        return Parallelized(function, options)
    _refuse_missing(plain, over)
    return ParallelizedOver(function, options, over)


def _refuse_unfit(function: Any) -> None:
    if isinstance(function, type):
        raise TypeError(f"parallelize() takes a function, not the class {function.__qualname__}; decorate its methods")
    if isinstance(function, Parallelized):
        raise TypeError(f"{_label(function)} is parallelized already; use .with_options for other options")
    if not callable(function):
        raise TypeError(f"parallelize() takes a function, not {type(function).__name__} {function!r}")
    if getattr(getattr(function, "__code__", None), "co_flags", 0) & _ASYNC_GENERATOR:
        raise TypeError(
            f"{function.__qualname__} is an asynchronous generator function, which has no single result; decorate a "
            "plain function or a coroutine function"
        )


def _refuse_missing(function: Callable[..., Any], over: str) -> None:
    from inspect import Parameter

    parameters = _signature(function).parameters
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    fit = [name for name, parameter in parameters.items() if parameter.kind not in variadic]
    if over not in fit:
        raise TypeError(
            f"over={over!r} is no parameter of {_label(function)}(); it has {', '.join(fit) or 'none to map over'}"
        )


def _signature(function: Callable[..., Any]) -> Any:
    from inspect import signature  # its import costs milliseconds, and most programs never need it

    return signature(function)


def _with_constants(function: Callable[..., _R], bound: Any, over: str) -> Callable[[Any], _R]:
    """Return a function of one item, which is the argument `over`; every other argument in `bound` is constant."""
    parameters = list(bound.signature.parameters.values())
    place = list(bound.signature.parameters).index(over)
    args, keywords = bound.args, bound.kwargs
    if parameters[place].kind is parameters[place].KEYWORD_ONLY or place >= len(args):
        del keywords[over]
        return partial(_call_with_keyword, function, args, keywords, over)
    before, after = args[:place], args[place + 1 :]
    following = parameters[place + 1 : place + 1 + len(after)]
    if any(parameter.kind is not parameter.POSITIONAL_OR_KEYWORD for parameter in following):
        return partial(_call_between, function, before, after, keywords)
    # The usual case needs no function of amorsize's in between, so the worker sees the user's own.
    named = {parameter.name: value for parameter, value in zip(following, after, strict=True)}
    return partial(function, *before, **named, **keywords)


@runs_items()
def _call_with_keyword(
    function: Callable[..., _R], args: tuple[Any, ...], keywords: dict[str, Any], name: str, item: Any
) -> _R:
    return function(*args, **keywords, **{name: item})


@runs_items()
def _call_between(
    function: Callable[..., _R], before: tuple[Any, ...], after: tuple[Any, ...], keywords: dict[str, Any], item: Any
) -> _R:
    return function(*before, item, *after, **keywords)


def _label(function: Callable[..., Any]) -> str:
    """Return the function's name for a message; partials and callable objects have none."""
    return getattr(function, "__qualname__", None) or repr(function)
