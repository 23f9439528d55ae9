from __future__ import annotations

import doctest
import inspect
import json
import pickle

import pytest

import amorsize
from amorsize import api, decorator
from amorsize.call import on_signal, stream

NAMES = [
    "AmorsizeError",
    "CacheStats",
    "InitializerError",
    "ItemTimeoutError",
    "OptimizedPlan",
    "Parallelized",
    "Plan",
    "Pool",
    "SerializationError",
    "Stream",
    "UnseededError",
    "UnsupportedError",
    "Where",
    "WorkerCrashError",
    "amap",
    "cache_stats",
    "clear_cache",
    "config",
    "get_cache_dir",
    "item_rng",
    "map",
    "optimize",
    "parallelize",
    "prune_expired_cache",
    "shutdown",
    "starmap",
    "where_on_signal",
]
# Each costs milliseconds, or starts something: a program that only imports amorsize has none of them.
HEAVY = {
    "asyncio", "cloudpickle", "collections", "concurrent.futures", "contextlib", "dataclasses", "functools", "inspect",
    "logging", "mmap", "multiprocessing", "multiprocessing.pool", "numpy", "opcode", "pathlib", "pickle",
    "platformdirs", "psutil", "random", "struct", "subprocess", "tempfile", "threading", "threadpoolctl", "tqdm",
    "types", "weakref",
}  # fmt: skip
# What a program that only imports amorsize, or maps a few cheap items, does without.
LATER = {
    "amorsize.advise", "amorsize.cache.lookup", "amorsize.call.learning", "amorsize.decorator", "amorsize.plan.planner",
    "amorsize.pool",
}  # fmt: skip


def test_the_public_names_are_pinned():
    """A name is public by being listed here and there."""
    assert amorsize.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_nice(name):
    """Each public name is documented, calls `amorsize` its module, and is pickled by that name."""
    public = getattr(amorsize, name)

    assert public.__module__ == "amorsize"
    assert public.__qualname__ == name
    # A NamedTuple without a docstring has its signature there.
    assert not inspect.getdoc(public).startswith(f"{name}(")
    assert pickle.loads(pickle.dumps(public)) is public


def test_all_names_are_listed():
    """Those that are loaded when they are first named as well."""
    assert set(NAMES) <= set(dir(amorsize))
    assert "__version__" in amorsize.__dir__()


def test_a_name_that_there_is_not_is_refused():
    """As it is by any module."""
    with pytest.raises(AttributeError, match=r"^module 'amorsize' has no attribute 'nmap'$"):
        amorsize.nmap  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_name_may_be_the_first_that_is_asked_for(python, name):
    """Whichever it is, it is there, and says what it is before the package has it."""
    code = f"import amorsize; from amorsize import {name}; assert {name}.__module__ == 'amorsize'; {name}.__qualname__"
    child = python("-c", code)

    assert (child.returncode, child.stderr) == (0, "")


@pytest.mark.slow
def test_a_class_says_what_it_is_before_anybody_has_named_it(python):
    """What a call returns is met without asking the package for its class."""
    code = "from amorsize.plan.planner import Plan; from amorsize.cache import lookup; print(Plan, lookup.CacheStats)"

    assert python("-c", code).stdout == "<class 'amorsize.Plan'> <class 'amorsize.CacheStats'>\n"


@pytest.mark.parametrize("method", ["map", "starmap", "with_options", "optimize"])
def test_a_public_method_is_documented(method):
    """Each verb of a decorated function has a docstring with its arguments."""
    assert "Args:" in getattr(amorsize.Parallelized, method).__doc__


def test_a_traceback_shows_the_public_name():
    """An error is shown by the name under which users catch it."""
    with pytest.raises(amorsize.UnsupportedError) as raised:
        amorsize.map(abs, [1], backend="threads", timeout=1)

    assert raised.exconly().startswith("amorsize.UnsupportedError: timeout= needs workers")



def test_shutdown_without_workers_is_nothing():
    """`shutdown` may be called at any time, and again."""
    amorsize.shutdown()
    amorsize.shutdown()


@pytest.mark.parametrize("module", [api, decorator, stream, on_signal], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_are_true(module):
    """What a docstring shows is what happens."""
    examples = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    for name in module.__all__:
        for example in examples.find(getattr(module, name), name, module=False, globs={}):
            runner.run(example)

    assert runner.tries > 0
    assert runner.failures == 0


@pytest.mark.slow
def test_importing_loads_nothing_heavy(python):
    """`import amorsize` loads none of the modules that cost milliseconds."""
    # What the interpreter's own start loads (an editable install's finder, coverage) is not ours.
    code = "import sys, json; old = {*sys.modules}; import amorsize; print(json.dumps([*sys.modules.keys() - old]))"
    child = python("-c", code)

    assert child.stderr == ""
    assert (HEAVY | LATER) & set(json.loads(child.stdout)) == set()


@pytest.mark.slow
def test_what_a_program_puts_in_a_names_place_stays(python):
    """Also if what the name stands for is loaded only then."""
    code = "import amorsize; amorsize.optimize = 1; import amorsize.advise; print(amorsize.optimize)"

    assert python("-c", code).stdout == "1\n"


@pytest.mark.slow
def test_importing_does_nothing(python, tmp_path):
    """`import amorsize` starts no thread or process, writes no file, sets no variable and no exit hook."""
    code = """if True:
        import atexit, gc, os, sys, threading, warnings
        environ, hooks, filters = dict(os.environ), atexit._ncallbacks(), list(warnings.filters)
        import amorsize
        assert dict(os.environ) == environ
        assert atexit._ncallbacks() == hooks
        assert list(warnings.filters) == filters
        assert threading.active_count() == 1
        assert not os.listdir(".")
        assert not os.path.exists(os.environ["AMORSIZE_CACHE_DIR"])
    """
    child = python("-c", code, cwd=tmp_path)

    assert (child.returncode, child.stderr) == (0, "")


@pytest.mark.slow
def test_serial_work_needs_no_process_machinery(python):
    """A short call loads neither `multiprocessing` nor cloudpickle."""
    code = (
        "import sys, amorsize; before = {*sys.modules}; assert list(amorsize.map(abs, [-1])) == [1]; "
        f"print({LATER | {'multiprocessing', 'cloudpickle', 'psutil'}} & (sys.modules.keys() - before))"
    )

    assert python("-c", code).stdout == "set()\n"
