from __future__ import annotations

import ast
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from fractions import Fraction
from pathlib import Path

import pytest

import amorsize
from amorsize import options
from amorsize.backends import rows
from amorsize.options import Options, check, resolve


class Index:
    """A whole number by protocol alone, as NumPy's are."""

    def __index__(self):
        return 3


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"n_jobs": None}, {"n_jobs": 1}, {"n_jobs": -1}, {"n_jobs": Index()},
        {"chunksize": None}, {"chunksize": 1},
        *({"backend": name} for name in rows.names()), {"backend": object()},
        {"start_method": None}, *({"start_method": name} for name in options.START_METHODS),
        {"ordered": False}, {"on_error": "return"}, {"retries": 0}, {"retries": 2},
        {"timeout": None}, {"timeout": 0.5}, {"timeout": 3},
        {"seed": None}, {"seed": 0},
        {"initializer": None}, {"initializer": print}, {"initializer": print, "initargs": (1,)}, {"initargs": (1,)},
        {"progress": True}, {"progress": print}, {"use_cache": False},
    ],
    ids=str,
)  # fmt: skip
def test_fit_options_come_back_as_they_were(given):
    """`check` returns what it was given."""
    assert check(given) is given


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"njobs": 2}, TypeError, r"map\(\) got an unexpected option 'njobs'; options are n_jobs, chunksize, backend"),
        ({"n_jobs": 0}, ValueError, r"n_jobs must not be 0: None is automatic, 1 is one worker, -1 is all cores"),
        ({"n_jobs": 2.0}, TypeError, r"n_jobs must be a whole number, not float 2\.0"),
        ({"n_jobs": True}, TypeError, r"n_jobs must be a whole number, not bool True"),
        ({"n_jobs": "2"}, TypeError, r"n_jobs must be a whole number, not str '2'"),
        ({"chunksize": 0}, ValueError, r"chunksize must be at least 1, or None for automatic, not 0"),
        ({"chunksize": 1.5}, TypeError, r"chunksize must be a whole number"),
        ({"backend": "thread"}, ValueError, r"backend must be one of 'auto', 'serial', .*not 'thread'"),
        ({"backend": None}, TypeError, r"backend must be text, an executor, a Pool or a client, not NoneType None"),
        ({"backend": 3}, TypeError, r"backend must be text"),
        ({"backend": ThreadPoolExecutor}, TypeError, r"backend must be text, .*not type"),
        ({"start_method": "vfork"}, ValueError, r"start_method must be one of None, 'fork', 'spawn', 'forkserver'"),
        ({"start_method": 1}, TypeError, r"start_method must be text, not int 1"),
        ({"ordered": 1}, TypeError, r"ordered must be True or False, not int 1"),
        ({"on_error": "skip"}, ValueError, r"on_error must be one of 'raise', 'return', not 'skip'"),
        ({"on_error": None}, ValueError, r"on_error must be one of 'raise', 'return', not None"),
        ({"retries": -1}, ValueError, r"retries must be 0 or more, not -1"),
        ({"retries": None}, TypeError, r"retries must be a whole number"),
        ({"timeout": 0}, ValueError, r"timeout must be a positive, finite number of seconds, not 0"),
        ({"timeout": float("nan")}, ValueError, r"timeout must be a positive, finite number of seconds"),
        ({"timeout": float("inf")}, ValueError, r"timeout must be a positive, finite number of seconds"),
        ({"timeout": "2"}, TypeError, r"timeout must be a number of seconds, not str '2'"),
        ({"timeout": True}, TypeError, r"timeout must be a number of seconds, not bool True"),
        ({"timeout": Fraction(1, 2)}, TypeError, r"timeout must be a number of seconds"),
        ({"seed": -1}, ValueError, r"seed must be 0 or more"),
        ({"seed": 1.0}, TypeError, r"seed must be a whole number"),
        ({"initializer": 3}, TypeError, r"initializer must be callable, not int 3"),
        ({"initargs": [1]}, TypeError, r"initargs must be a tuple, not list \[1\]"),
        ({"initializer": None, "initargs": (1,)}, ValueError, r"initargs were given without an initializer"),
        ({"progress": 1}, TypeError, r"progress must be True, False or a callable, not int 1"),
        ({"use_cache": None}, TypeError, r"use_cache must be True or False, not NoneType None"),
    ],
    ids=str,
)
def test_unfit_options_are_refused_in_words(given, error, text):
    """A wrong name or type is a TypeError, a wrong value a ValueError; both name option, expectation and value."""
    with pytest.raises(error, match=text):
        check(given, "map")


@pytest.mark.parametrize(
    "call",
    [
        lambda **given: amorsize.map(abs, [], **given),
        lambda **given: amorsize.starmap(abs, [], **given),
        lambda **given: amorsize.amap(abs, [], **given),
        lambda **given: amorsize.optimize(abs, [], **given),
        amorsize.config,
        amorsize.parallelize,
    ],
    ids=["map", "starmap", "amap", "optimize", "config", "parallelize"],
)
def test_every_call_checks_its_options(call, request):
    """The same options everywhere, refused at the call that was given them, which the text names."""
    name = request.node.callspec.id
    with pytest.raises(TypeError, match=rf"^{name}\(\) got an unexpected option 'njobs'"):
        call(njobs=2)
    with pytest.raises(ValueError, match="n_jobs must not be 0"):
        call(n_jobs=0)


def test_every_option_has_a_checker_and_a_type():
    """The fields of `Options`, the checkers, and the names that type checkers know are the same."""
    tree = ast.parse(Path(options.__file__).read_text(encoding="utf-8"))
    given = next(node for node in ast.walk(tree) if getattr(node, "name", None) == "GivenOptions")
    typed = {statement.target.id for statement in given.body if isinstance(statement, ast.AnnAssign)}

    assert set(options._CHECKERS) == typed == set(Options._fields)


def test_defaults_are_automatic():
    """With nothing given anywhere, the defaults hold."""
    assert resolve() == Options()
    assert Options().backend == "auto"


def test_options_are_frozen():
    """Nobody can change the options of a call under way."""
    with pytest.raises(AttributeError):
        resolve().n_jobs = 3


def test_the_nearer_place_wins(monkeypatch):
    """Call, decorator, config, environment: each beats those after it, option by option."""
    monkeypatch.setenv("AMORSIZE_N_JOBS", "4")
    monkeypatch.setenv("AMORSIZE_BACKEND", "processes")
    monkeypatch.setenv("AMORSIZE_START_METHOD", "spawn")
    assert resolve()[:4] == (4, None, "processes", "spawn")

    with amorsize.config(n_jobs=3, chunksize=30):
        assert resolve()[:4] == (3, 30, "processes", "spawn")
        assert resolve({}, {"n_jobs": 2, "chunksize": 20})[:4] == (2, 20, "processes", "spawn")
        assert resolve({"n_jobs": None}, {"n_jobs": 2, "chunksize": 20})[:4] == (None, 20, "processes", "spawn")


def test_initargs_may_stand_nearer_than_their_initializer():
    """An initializer from one place takes arguments from another, but arguments alone are refused."""
    assert resolve({"initargs": (1,)}, {"initializer": print}).initargs == (1,)
    with pytest.raises(ValueError, match="initargs were given without an initializer"):
        resolve({"initargs": (1,)})


class TestConfig:
    """`with amorsize.config(...)` sets defaults for a block."""

    def test_blocks_nest_and_end(self):
        """An inner block adds to the outer one, and each is over with its end, by an error too."""
        inner = amorsize.config(n_jobs=2)
        with amorsize.config(n_jobs=3, chunksize=30):
            with inner:
                assert resolve()[:2] == (2, 30)
            with pytest.raises(ZeroDivisionError), inner:
                1 / resolve().retries
            assert resolve()[:2] == (3, 30)
        assert resolve() == Options()

    def test_one_block_can_be_used_again(self):
        """The same object may be entered again, inside itself too."""
        serial = amorsize.config(backend="serial")
        with serial:
            with serial:
                assert resolve().backend == "serial"
            assert resolve().backend == "serial"
        assert resolve().backend == "auto"

    def test_it_is_this_threads_alone(self):
        """Another thread, unless it copies the context, sees nothing of it."""
        seen = []
        with amorsize.config(n_jobs=3):
            copied = copy_context()
            for target in (lambda: seen.append(resolve().n_jobs), lambda: seen.append(copied.run(resolve).n_jobs)):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()

        assert seen == [None, 3]


class TestEnvironment:
    """AMORSIZE_ variables are the farthest defaults."""

    def test_empty_is_not_given(self, monkeypatch):
        """An empty variable is as none."""
        monkeypatch.setenv("AMORSIZE_N_JOBS", "")

        assert resolve() == Options()

    @pytest.mark.parametrize(
        ("variable", "value", "text"),
        [
            ("AMORSIZE_N_JOBS", "many", "AMORSIZE_N_JOBS must be a whole number, not 'many'"),
            ("AMORSIZE_N_JOBS", "0", "AMORSIZE_N_JOBS: n_jobs must not be 0"),
            ("AMORSIZE_BACKEND", "thread", "AMORSIZE_BACKEND: backend must be one of"),
            ("AMORSIZE_START_METHOD", "vfork", "AMORSIZE_START_METHOD: start_method must be one of"),
        ],
    )
    def test_a_wrong_value_names_the_variable(self, monkeypatch, variable, value, text):
        """A wrong value is a ValueError at the call that would use it."""
        monkeypatch.setenv(variable, value)

        with pytest.raises(ValueError, match=text):
            amorsize.map(abs, [])
