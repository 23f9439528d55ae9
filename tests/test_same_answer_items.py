"""Items are what they were when they were pulled: programs give with `amorsize.map` what they give with the builtin.

Named backends give the same, or refuse.
"""

from __future__ import annotations

import builtins
import itertools
import os
import threading
import warnings
from functools import partial

import item_programs as programs
import pytest

import amorsize
from amorsize.call.policy import Policy
from amorsize.errors import SerializationError, UnsupportedError

TIMES = ["cold", "warm"]


@pytest.fixture(autouse=True)
def cheap_starts(monkeypatch):
    """Let "auto" take workers early, as on a machine where they start at once."""
    profile = Policy.machine
    monkeypatch.setattr(
        Policy,
        "machine",
        lambda decision, work=None: profile(decision, work)._replace(
            seconds_first_start=1e-4,
            seconds_next_start=1e-4,
            seconds_per_chunk=1e-5,
            seconds_per_call=1e-5,
            seconds_load=0.0,
            prediction_error=0.0,
            physical_cores=2,
            cores=2,
        ),
    )


def warmed(options, times):
    """Leave workers running, and the functions known, if a test is to find that."""
    if times == "warm":
        list(amorsize.map(programs.doubled, range(programs.COUNT), **options))


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("make", programs.REFILLED, ids=lambda make: make.__name__)
def test_a_record_that_is_refilled(make, times, anywhere):
    """Each item is what it was, though its reader uses one object for all of them."""
    function, *inputs = make()
    expected = list(builtins.map(function, *inputs))
    warmed(anywhere, times)

    for _ in range(1 + (times == "warm")):
        function, *inputs = make()
        assert list(amorsize.map(function, *inputs, **anywhere)) == expected


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("make", programs.ITERATORS, ids=lambda make: make.__name__)
def test_items_that_are_iterators_stay(make, times):
    """Under "auto" they run in the caller, in order, without a word, and no worker is started for them."""
    function, *inputs = make()
    expected = list(builtins.map(function, *inputs))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(1 + (times == "warm")):
            function, *inputs = make()
            stream = amorsize.map(function, *inputs)
            assert list(stream) == expected
            assert stream.plan is None or stream.plan.backend == "serial"


@pytest.mark.parametrize("make", programs.ITERATORS, ids=lambda make: make.__name__)
def test_named_workers_refuse_iterators(make, backend):
    """Elsewhere an item would be a copy, which goes its own way."""
    function, *inputs = make()
    if backend["backend"] == "serial":
        expected = list(builtins.map(function, *make()[1:]))
        assert list(amorsize.map(function, *inputs, **backend)) == expected
        return
    with pytest.raises(SerializationError, match="iterator"):
        list(amorsize.map(function, *inputs, **backend))


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("how", programs.GROWING)
def test_a_list_that_grows_with_its_results(how, times, anywhere):
    """Its end is believed only after all its results were handed out."""
    program = programs.growing(how)
    expected = program(builtins.map if "strict" not in how else _strict_map)
    assert len(expected) == programs.COUNT
    warmed(anywhere, times)

    for _ in range(1 + (times == "warm")):
        assert program(amorsize.map, **anywhere) == expected


def _strict_map(function, *inputs, strict):
    return itertools.starmap(function, zip(*inputs, strict=strict))


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("how", programs.WORKLISTS)
def test_worklists_stay(how, times):
    """Under "auto" an input that takes its items off a worklist stays in the caller."""
    program = programs.WORKLISTS[how]
    expected = program(builtins.map)

    for _ in range(1 + (times == "warm")):
        assert program(amorsize.map) == expected
        warmed({}, times)


@pytest.mark.parametrize("how", programs.WORKLISTS)
def test_named_workers_refuse_worklists(how, backend):
    """The call says so, before anything ran."""
    program = programs.WORKLISTS[how]
    if backend["backend"] == "serial":
        assert program(amorsize.map, **backend) == program(builtins.map)
        return
    with pytest.raises(UnsupportedError, match="reads ahead"):
        program(amorsize.map, **backend)


@pytest.mark.parametrize("make", [programs.tied_rows, programs.tied_rows_by_iterator], ids=lambda make: make.__name__)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_an_input_that_belongs_to_its_thread(make, method):
    """Beside a long first item nothing reads it in another thread."""
    function, rows = make()

    assert list(amorsize.map(function, rows, n_jobs=2, start_method=method)) == list(range(12))


def test_objects_of_a_list_are_not_pickled_beside_a_long_first_item():
    """What their classes do when they are pickled runs in the thread that called."""
    Told.threads.clear()
    items = [Told(number) for number in range(12)]

    assert list(amorsize.map(slow_if_first_told, items)) == list(range(12))
    assert set(Told.threads) <= {threading.get_ident()}


class Told:
    """Tells in which threads of this process it was pickled."""

    threads: list[int] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        Told.threads.append(threading.get_ident())
        return Told, (self.number,)


def slow_if_first_told(told):
    return programs.slow_if_first(told.number)


def test_numpy_arrays_as_inputs(anywhere):
    """Their items are what iterating over them gives."""
    numpy = pytest.importorskip("numpy")
    for array in (
        numpy.arange(20) / 7,
        numpy.arange(60).reshape(20, 3),
        numpy.arange(200_000.0).reshape(10, 20_000),
        numpy.array([[1], "text", None, 2.5], dtype=object),
        numpy.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")]),
    ):
        assert list(amorsize.map(type_and_text, array, **anywhere)) == list(map(type_and_text, array))


def test_what_an_item_of_an_array_changes_stays_its_own(one_method, tmp_path):
    """A second try, and one after the worker died, gets the row as it was."""
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(40.0).reshape(20, 2)
    fails_once = partial(spoils_and_fails, os.getpid(), str(tmp_path))

    found = list(amorsize.map(fails_once, array, retries=3, chunksize=5, **one_method))

    assert found == [float(row.sum()) for row in numpy.arange(40.0).reshape(20, 2)]
    assert array.tolist() == numpy.arange(40.0).reshape(20, 2).tolist()


def spoils_and_fails(caller, folder, row):
    """Change the row, and fail with some rows the first time; with one of them, the worker ends."""
    assert os.getpid() != caller
    total = float(row.sum())
    place = int(row[0]) // 2
    row[:] = -1
    if place % 7 == 3:
        try:
            open(os.path.join(folder, str(place)), "x").close()
        except FileExistsError:
            return total
        if place == 17:
            os._exit(1)
        raise ValueError("the first time")
    return total


def type_and_text(item):
    return type(item).__name__, repr(item), str(getattr(item, "tolist", list)())


def test_views_of_one_numpy_array(anywhere):
    """Rows that are views of one buffer are what they were."""
    numpy = pytest.importorskip("numpy")

    def rows():
        buffer = numpy.zeros(3)
        for number in range(programs.COUNT):
            buffer[:] = number
            yield buffer[:2]

    expected = [str(list(row)) for row in rows()]

    assert list(amorsize.map(programs.content, rows(), **anywhere)) == expected


def test_a_list_that_was_read_past_is_an_error(one_method):
    """Where a pull passed over the rest of a list that grows then, there is an error and no silent end."""
    todo = [1, 2, -3]

    with pytest.raises(amorsize.AmorsizeError, match="became longer"):
        programs.extend_by_children(todo, (node for node in todo if node > 0), **one_method)


@pytest.mark.parametrize("fill", [0, 40], ids=["at once", "later"])
def test_what_is_advised_gives_items_back_as_they_were(fill):
    """The data of a plan are the items, though one record held them all and the function changes it."""

    def rows():
        record = []
        for number in range(programs.COUNT):
            record[:] = [number] * fill + [number]
            yield record

    def spoil(record):
        record.append("spoilt")

    plan = amorsize.optimize(spoil, rows())

    assert [row[-1] for row in map(list, plan.data)] == list(range(programs.COUNT))


def test_what_is_advised_does_not_use_up_groups():
    """Groups are not tried out, so that the caller finds them whole."""
    plan = amorsize.optimize(programs.total, itertools.groupby(range(30), lambda number: number // 3))

    assert plan.backend == "serial"
    assert "iterator" in plan.reason
    assert list(map(programs.total, plan.data)) == [(key, 9 * key + 3) for key in range(10)]


def test_what_is_advised_does_not_empty_a_worklist():
    """Its items may not all be there yet."""
    nodes = [1]

    def popping():
        while nodes:
            yield nodes.pop()

    plan = amorsize.optimize(programs.children, popping())
    assert plan.backend == "serial"
    met = 0
    for found in map(programs.children, plan.data):
        met += 1
        nodes.extend(found)
    assert met == programs.COUNT
