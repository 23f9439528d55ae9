"""Exceptions belong to whom they belong: to the item that raised them, with their class, or to the user's signal."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time

import programs
import pytest

import amorsize
from amorsize.backends.processes import lease as pool
from amorsize.backends.processes.handle import all_workers
from amorsize.errors import from_signal_handler, raised_by, signal_handlers

# What each shows of an error: its class, text, arguments, and what else it carries.
SHOW = """
        def show(error):
            kind = type(error)
            assert kind is globals().get(kind.__name__, kind), "another class of the same name"
            own = {name: value for name, value in vars(error).items() if name not in ("amorsize_index", "__notes__")}
            notes = [note for note in getattr(error, "__notes__", []) if not note.startswith("amorsize")]
            print(kind.__mro__[:-2], error.args, sorted(own.items()), notes, extra(error))
        def extra(error):
            names = ("errno", "strerror", "filename", "code", "reason", "start", "lineno", "text", "name", "x", "y")
            return [getattr(error, name, None) for name in names]
        def try_all(raising, number):
            for k in range(number):
                try:
                    list(MAP(raising, [k] * 3))
                except BaseException as error:
                    show(error)
                else:
                    print("nothing")
        """

ERRORS = {
    "that take other arguments than they keep": """
        class Two(Exception):
            def __init__(self, a, b): super().__init__(f"{a}-{b}"); self.a, self.b = a, b
        class Keyword(ValueError):
            def __init__(self, *, code): super().__init__("kw"); self.code = code
        class Prefixed(Exception):
            def __init__(self, text): super().__init__("error: " + text)
        class Made(Exception):
            def __new__(cls, a, *, k): made = super().__new__(cls, a); made.k = k; return made
            def __init__(self, *given, **named): pass
        class Leaving(SystemExit):
            def __init__(self, *, why): super().__init__(why)
        def work(k):
            raise [lambda: Two(1, 2), lambda: Keyword(code=5), lambda: Prefixed("x"), lambda: Made(1, k=2),
                   lambda: Leaving(why=4)][k]()
        try_all(work, 5)
        """,
    "of builtin classes with fields of their own": """
        class Path(OSError):
            def __init__(self, path): super().__init__(2, "nothing there", path)
        class Text(UnicodeDecodeError):
            def __init__(self, why): super().__init__("utf8", b"abc", 0, 1, why)
        class Syntax(SyntaxError):
            def __init__(self, line): super().__init__("bad", ("file", line, 1, "text"))
        class Missing(ImportError):
            def __init__(self, which): super().__init__("none", name=which)
        def work(k):
            raise [lambda: Path("/somewhere"), lambda: Text("why"), lambda: Syntax(7), lambda: Missing("m"),
                   lambda: FileNotFoundError(2, "no", "there"), lambda: StopAsyncIteration(3)][k]()
        try_all(work, 6)
        """,
    "that refuse to be pickled or changed": """
        class Refusing(Exception):
            def __reduce__(self): raise RuntimeError("not me")
        class Elsewhere(Exception):
            home = os.getpid()
            def __init__(self, a, home): super().__init__(a, home)
            def __setstate__(self, state): raise RuntimeError("not there")
        class Slotted(Exception):
            __slots__ = ("x", "y")
            def __init__(self, x, y): super().__init__(x); self.x, self.y = x, y
        class Frozen(Exception):
            def __init__(self, a, b): super().__init__(a); object.__setattr__(self, "b", b)
            def __setattr__(self, name, value): raise AttributeError(name)
        def noted(error):
            error.__notes__ = ["a note"]
            error.own = [1, 2]
            return error
        def work(k):
            raise [lambda: Refusing("a", 1), lambda: noted(Elsewhere(1, 2)), lambda: Slotted(1, 2),
                   lambda: Frozen(1, 2), lambda: noted(Refusing(2))][k]()
        try_all(work, 5)
        """,
    "with parts that cannot travel": """
        import threading
        class Locked(Exception): pass
        class Shown:
            def __repr__(self): return "as it shows"
            def __reduce__(self): raise RuntimeError
        def work(k):
            error = Locked("l", Shown(), 3)
            error.kept = 1
            raise error
        try:
            list(MAP(work, [1, 2]))
        except Locked as error:
            print(str(error.args[1]), error.args[0], error.args[2], error.kept)
        """,
    "of a class made inside": """
        def work(k):
            class Inner(LookupError):
                def __init__(self, a, b): super().__init__(a)
            raise Inner(1, 2)
        try:
            list(MAP(work, [1, 2]))
        except LookupError as error:
            print(type(error).__name__, type(error).__mro__[1:], error.args)
        """,
}

GROUPS = """
        class Two(Exception):
            def __init__(self, a, b): super().__init__(a)
        class Refusing(Exception):
            def __reduce__(self): raise RuntimeError("not me")
        class Coded(ExceptionGroup):
            def __new__(cls, text, members, code=0):
                made = super().__new__(cls, text, members)
                made.code = code
                return made
            def __init__(self, text, members, code=0): super().__init__(text, members)
            def derive(self, members): return Coded(self.message, members, self.code)
        def tree(error, depth=0):
            print(" " * depth, type(error), error.args[0], getattr(error, "code", None))
            for member in getattr(error, "exceptions", ()):
                tree(member, depth + 1)
        def work(k):
            raise [
                lambda: ExceptionGroup("plain", [ValueError(1), Two(1, 2)]),
                lambda: Coded("coded", [Two(3, 4), ExceptionGroup("inner", [Refusing("r"), KeyError(5)])], 7),
                lambda: BaseExceptionGroup("base", [SystemExit(3), Coded("in", [Refusing("q")], 8)]),
            ][k]()
        for k in range(3):
            try:
                list(MAP(work, [k, k]))
            except BaseExceptionGroup as error:
                tree(error)
                caught, rest = error.split(Two)
                print(caught and len(caught.exceptions), rest and len(rest.exceptions), getattr(rest, "code", None))
        """


@pytest.mark.slow
@pytest.mark.parametrize("options", programs.choices())
@pytest.mark.parametrize("name", ERRORS)
def test_errors_arrive_as_what_they_are(name, options, tmp_path):
    """An error has its own class, so that `except` finds it, its arguments and what of its attributes can travel."""
    programs.assert_same(SHOW + ERRORS[name], options, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are new in CPython 3.11")
@pytest.mark.parametrize("options", programs.choices())
def test_groups_keep_their_members(options, tmp_path):
    """A group of errors arrives with its members, each of its own class, nested ones and those hard to pickle too."""
    programs.assert_same(GROUPS, options, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("options", programs.choices()[1:])
def test_a_depth_that_cannot_be_sent_is_its_items_error(options, tmp_path):
    """By a named backend every item either has its result, or its own error: never an assertion of ours."""
    program = """
        def nested(depth):
            value = 0
            for _ in range(depth):
                value = [value]
            return value
        def depth_of(value):
            return type(value).__name__
        def deeper(frames, depths):
            return deeper(frames - 1, depths) if frames else [
                type(one).__name__
                for one in amorsize.map(depth_of, plain_map(nested, depths), on_error="return", OPTIONS)
            ]
        limit = sys.getrecursionlimit()
        kinds = set()
        for frames in range(0, 6):
            kinds.update(deeper(frames, range(limit // 4, limit, 3)))
        print(sorted(kinds))
        """.replace("OPTIONS", options)

    printed = programs.run(program, None, tmp_path)

    assert eval(printed) in (["Unsendable", "str"], ["str"])  # noqa: S307 - our own print


class Leaving:
    """Raises at one item, and returns the others."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, item):
        if item == 2:
            raise self.kind(item)
        return item


@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, ValueError])
def test_wishes_to_exit_are_errors_like_any_other(anywhere, kind):
    """`on_error="return"` puts `SystemExit` and a cancellation in their item's place, and the rest has its results."""
    stream = amorsize.map(Leaving(kind), range(5), on_error="return", retries=1, **anywhere)
    results = list(stream)

    assert [result for result in results if type(result) is int] == [0, 1, 3, 4]
    assert type(results[2]) is kind
    assert [(failure.index, failure.tries) for failure in stream.failures] == [(2, 2)]


alarms = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no alarms")


class Limit(Exception):
    """A user's own."""


class TimeLimit(TimeoutError):
    """One that is an OSError, which a broken socket gives, too."""


class Alarm:
    """Strikes once, after some time, through a handler of a given shape."""

    def __init__(self, kind):
        self.raised = None
        self.kind = kind

    def handler(self, number, frame):
        self.raised = self.kind("the time is over")
        raise self.raised

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.handler)
        return self

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


def was_in_copyreg(error):
    """Say whether an error came up in the library's `copyreg`, which drops any that comes as it notes slots."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_name != "_slotnames":
        traceback = traceback.tb_next
    return traceback is not None


class SlowlyPickled:
    """Spends its time in being pickled and rebuilt."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        spend(0.0005)
        return slowly_rebuilt, (self.value,)


def slowly_rebuilt(value):
    spend(0.0005)
    return SlowlyPickled(value)


def spend(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(20))


def short(item):
    return [item]


def long(item):
    spend(0.001)
    return item


LOCKS = [threading.Lock()] * 20
CALLS = {
    "slow pickling": lambda options: amorsize.map(short, [SlowlyPickled(n) for n in range(20)], **options),
    "what cannot be pickled": lambda options: amorsize.map(short, LOCKS, on_error="return", **options),
    "long items": lambda options: amorsize.map(long, range(60), **options),
    "short items": lambda options: amorsize.map(short, range(3000), **options),
    "errors returned": lambda options: amorsize.map(Leaving(KeyError), range(40), on_error="return", **options),
}


@alarms
@pytest.mark.slow
@pytest.mark.parametrize("kind", [Limit, TimeLimit])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore:amorsize runs it in the caller")
def test_an_alarm_comes_out_wherever_it_strikes(name, kind, one_method, monkeypatch):
    """What the handler raises comes out as itself, unless the call had ended; no worker is held afterwards."""
    struck = 0
    printed = []  # what destructors and callbacks of weak references raise, Python itself only prints
    monkeypatch.setattr(sys, "unraisablehook", lambda given: printed.append(given.exc_value))
    for options in ({}, one_method):
        list(CALLS[name](options))  # so that workers are there, and modules imported
        for step in range(25):
            with Alarm(kind) as alarm:
                ended = False
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + 0.0011 * step)
                    stream = CALLS[name](options)
                    for _ in stream:
                        pass
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    ended = alarm.raised is None or alarm.raised in printed or was_in_copyreg(alarm.raised)
                except BaseException as error:  # noqa: BLE001 - which one it is is the question
                    assert error is alarm.raised  # noqa: PT017 - more than its class
                    ended = True
                    struck += 1
                assert ended, "the alarm was lost"
            stream = None
            if len(all_workers()) != pool.warm_count():
                # It struck while the call was closing: what was held then is ended when the error's frames are dropped.
                alarm.raised = alarm.raised and alarm.raised.with_traceback(None)
                gc.collect()
            assert len(all_workers()) == pool.warm_count()
    assert struck or name in {"short items", "errors returned"}  # where a fast machine may always have been first


@alarms
@pytest.mark.parametrize("options", [{"on_error": "return"}, {"retries": 2}], ids=str)
def test_an_alarm_set_for_the_whole_call_is_no_items_error(options):
    """A handler that was there before the items began limits the whole: what it raises is neither kept nor retried."""
    tries = []

    def work(item):
        tries.append(item)
        if item == 3:
            signal.raise_signal(signal.SIGALRM)
        return item

    with Alarm(Limit) as alarm:
        stream = amorsize.map(work, range(10), **options)
        with pytest.raises(Limit) as caught:
            list(stream)

        assert caught.value is alarm.raised
    assert tries == [0, 1, 2, 3]


@alarms
def test_an_alarm_that_an_item_set_is_that_items_error(anywhere):
    """A handler that the item installed itself limits the item: what it raises is returned in its place."""
    if anywhere.get("backend") == "threads":
        pytest.skip("handlers are set in the main thread only")
    results = list(amorsize.map(limiting_itself, range(4), on_error="return", **anywhere))

    assert [type(result) for result in results] == [int, int, Limit, int]


def limiting_itself(item):
    def handler(number, frame):
        raise Limit(item)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        if item == 2:
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    return item


class CallableHandler:
    """A handler that is an object."""

    def __call__(self, *given):
        raise Limit("from an object")


def plain_handler(number, frame):
    raise Limit("from a function")


@alarms
@pytest.mark.parametrize("handler", [plain_handler, CallableHandler(), Alarm(Limit).handler, lambda *_: 1 / 0])
@pytest.mark.parametrize("still", [True, False])
def test_what_a_handler_raised_is_told_apart(handler, still):
    """By a frame of its code, or of its call where another is installed since; other errors are not taken for it."""
    before = signal.signal(signal.SIGALRM, handler)
    installed = signal_handlers()
    try:
        signal.raise_signal(signal.SIGALRM)
    except (Limit, ZeroDivisionError) as error:
        found = error
    finally:
        if not still:
            signal.signal(signal.SIGALRM, before)
    try:
        assert from_signal_handler(found)
        assert raised_by(installed, found)
        with pytest.raises(ValueError, match="invalid literal") as other:
            int("x")
        assert not from_signal_handler(other.value)
    finally:
        signal.signal(signal.SIGALRM, before)
