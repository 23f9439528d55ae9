"""Workers have the caller's limits, filters, contexts, folder and environment, and are as they were for each call."""

from __future__ import annotations

import sys

import programs
import pytest

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="a platform without these")
PROGRAMS = {
    "limits and contexts of the caller": """
        import decimal, locale
        def look(x):
            busy(.003)
            try:
                warnings.warn("old", FutureWarning)
                warned = "passed"
            except FutureWarning:
                warned = "raised"
            return (
                sys.getrecursionlimit(), getattr(sys, "get_int_max_str_digits", int)(),
                str(decimal.Decimal(1) / 3), decimal.getcontext().rounding, warned,
            )
        warnings.simplefilter("ignore")
        print(set(MAP(look, range(40))))
        sys.setrecursionlimit(3333)
        getattr(sys, "set_int_max_str_digits", int)(5000)
        decimal.getcontext().prec = 7
        decimal.getcontext().rounding = decimal.ROUND_UP
        print(set(MAP(look, range(40))))
        warnings.simplefilter("error", FutureWarning)
        with decimal.localcontext() as context:
            context.prec = 3
            print(set(MAP(look, range(40))))
        print(set(MAP(look, range(40))))
        """,
    "contexts of the caller, for workers that start beside a long first item": """
        import decimal
        def look(x):
            busy(.8 if x == 0 else .003)
            return str(decimal.Decimal(1) / 3)
        decimal.getcontext().prec = 7
        print(list(MAP(look, range(40))))
        """,
    "folder and environment of the caller": """
        import tempfile
        def look(x):
            busy(.003)
            return os.path.basename(os.getcwd()), os.environ.get("AMORSIZE_TEST_NAME")
        os.mkdir("inner")
        print({name for _, name in MAP(look, range(40))})
        os.chdir("inner")
        os.environ["AMORSIZE_TEST_NAME"] = "one"
        print(set(MAP(look, range(40))))
        del os.environ["AMORSIZE_TEST_NAME"]
        print(set(MAP(look, range(40))))
        """,
}
NUMPY = """
    import numpy as np
    def look(x):
        busy(.003)
        return np.geterr()["divide"], str(np.array([1 / 3]))
    print(set(MAP(look, range(40))))
    with np.errstate(divide="raise"), np.printoptions(precision=2):
        print(set(MAP(look, range(40))))
    print(set(MAP(look, range(40))))
    """
# What items change is their worker's affair; the next call must not meet it.
CHANGED_BY_ITEMS = """
    import decimal, psutil, signal, tempfile
    options = {options}
    folder = tempfile.mkdtemp(dir=os.getcwd())
    def state():
        import resource
        return (
            os.getcwd(), os.environ.get("AMORSIZE_TEST_NAME"), sys.getrecursionlimit(), decimal.getcontext().prec,
            resource.getrlimit(resource.RLIMIT_NOFILE)[0], signal.getsignal(signal.SIGUSR1), len(sys.path),
            signal.getitimer(signal.ITIMER_REAL)[0], [entry[0] for entry in warnings.filters][:1],
        )
    def change(x):
        import resource
        os.chdir(folder)
        os.environ["AMORSIZE_TEST_NAME"] = "item"
        sys.setrecursionlimit(1234)
        decimal.getcontext().prec = 5
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 100)
        sys.path.insert(0, "nowhere")
        warnings.simplefilter("always")
        os.umask(0o777)
        return os.getpid()
    def look(x):
        umask = os.umask(0o22)
        os.umask(umask)
        return repr((state(), umask)), os.getpid()
    before = list(amorsize.map(look, range(8), **options))
    list(amorsize.map(change, range(8), **options))
    kept = {{child.pid for child in psutil.Process().children(recursive=True)}}
    after = list(amorsize.map(look, range(8), **options))
    print({{text for text, _ in before}} == {{text for text, _ in after}}, {{pid for _, pid in after}} <= kept)
    """


@pytest.mark.parametrize("options", programs.choices())
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_the_same(name, options, tmp_path):
    """What the caller has set holds where its items run, however old the workers are."""
    programs.assert_same(PROGRAMS[name], options, tmp_path)


@pytest.mark.parametrize("options", programs.choices())
def test_numpys_settings(options, tmp_path):
    """Error state and print options are the caller's."""
    pytest.importorskip("numpy")

    programs.assert_same(NUMPY, options, tmp_path)


@POSIX
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_items_changed_is_gone_for_the_next_call(method, tmp_path):
    """Their worker is as it was, and still the same worker."""
    options = {"backend": "processes", "n_jobs": 2, "start_method": method}

    printed = programs.run(CHANGED_BY_ITEMS.format(options=options), None, tmp_path)

    assert printed == "True True\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_an_initializer_has_set_stands(method, tmp_path):
    """It is there to set things, and the caller's own settings are for workers that have none."""
    program = f"""
        import decimal
        def initialize():
            sys.setrecursionlimit(4321)
            decimal.getcontext().prec = 9
        def look(x): return sys.getrecursionlimit(), decimal.getcontext().prec
        decimal.getcontext().prec = 7
        options = {{"backend": "processes", "n_jobs": 2, "start_method": {method!r}, "initializer": initialize}}
        for _ in range(2): print(set(amorsize.map(look, range(8), **options)))
        """

    printed = programs.run(program, None, tmp_path)

    assert printed == "{(4321, 9)}\n" * 2


def test_a_function_is_rebuilt_where_nothing_is_left_of_the_items_before(tmp_path):
    """What its module reads when it is imported is the environment of the caller, not what an item has made of it."""
    program = """
        with open("reader.py", "w") as file:
            file.write("import os\\nNAME = os.environ.get('AMORSIZE_TEST_NAME')\\ndef read(x): return NAME\\n")
        def change(x): os.environ["AMORSIZE_TEST_NAME"] = "item"
        options = {"backend": "processes", "n_jobs": 2, "start_method": "spawn"}
        import reader
        list(amorsize.map(change, range(8), **options))
        print(set(amorsize.map(reader.read, range(8), **options)))
        """

    assert programs.run(program, None, tmp_path) == "{None}\n"


@POSIX
def test_a_worker_that_cannot_be_put_back_is_replaced(tmp_path):
    """One whose folder is gone for good leaves, and that is no crash of the next call's items."""
    program = """
        options = {"backend": "processes", "n_jobs": 2, "start_method": "spawn", "chunksize": 1}
        home = os.getcwd()
        os.mkdir("inner")
        os.chdir("inner")
        def leave(x):
            os.chdir("..")
            return os.getpid()
        def look(x): return os.getpid()
        left = set(amorsize.map(leave, range(2), **options))
        os.rename(os.path.join(home, "inner"), os.path.join(home, "other"))
        after = set(amorsize.map(look, range(8), **options))
        print(bool(after), after.isdisjoint(left))
        """

    assert programs.run(program, None, tmp_path) == "True True\n"
