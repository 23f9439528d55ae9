"""What items print, log and warn of in our workers is seen where the caller looks, once, before their results."""

from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
import queue
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest
import relay_workers as workers

import amorsize
from amorsize.backends.processes import lease

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no alarm")


@pytest.fixture
def logged(caplog):
    """Keep every record from INFO on."""
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def lenient():
    """Show warnings as a program does, and keep them: the tests' own filters make each one an error."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)  # as `conftest.FORKED`
        yield shown


def run(function, items, options, **more):
    return list(amorsize.map(function, items, **options, **more))


class TestLines:
    """`sys.stdout` and `sys.stderr`."""

    def test_lines_reach_the_callers_stream(self, processes, capsys):
        """Each line is there once, on the stream it was written to."""
        run(workers.prints_to_both, range(6), processes)

        out, err = capsys.readouterr()
        assert sorted(out.splitlines()) == [f"out {number}" for number in range(6)]
        assert sorted(err.splitlines()) == [f"err {number}" for number in range(6)]

    def test_the_stream_is_the_present_one(self, one_method):
        """It may be another one at each result."""
        first, second = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(first):
            run(workers.prints, [1], one_method)
        with contextlib.redirect_stdout(second):
            run(workers.prints, [2], one_method)

        assert (first.getvalue(), second.getvalue()) == ("line 1\n", "line 2\n")

    def test_lines_come_before_the_result(self, processes):
        """Whoever has a result has seen what its item printed."""
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            for number in amorsize.map(workers.prints, range(20), **processes):
                assert f"line {number}\n" in shown.getvalue()

    def test_lines_of_two_workers_are_whole(self, one_method, capsys):
        """However small the parts they were written in."""
        run(workers.prints_long_lines, range(1, 9), one_method, chunksize=1)

        lines = capsys.readouterr().out.splitlines()
        assert sorted(lines) == sorted(str(number) * 50 for number in range(1, 9) for _ in range(20))

    def test_unfinished_lines_are_as_with_the_builtin(self, processes, capsys):
        """They come without an end when their item is over."""
        run(workers.prints_dots, range(10), processes)

        assert capsys.readouterr().out == "." * 10

    def test_much_is_printed(self, one_method):
        """Ten megabytes go through, and nothing waits for ever."""
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            run(workers.prints_much, range(10), one_method)

        assert shown.getvalue().count("\n") == 100_000

    @pytest.mark.parametrize("function", [workers.prints_one_text, workers.prints_without_end])
    def test_a_very_long_line(self, one_method, function):
        """It comes whole where nobody else writes."""
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            run(function, [1_000_000], one_method)

        assert len(shown.getvalue().rstrip("\n")) == 1_000_000

    @pytest.mark.parametrize("function", [workers.prints_and_waits, workers.prints_twice_and_waits])
    def test_lines_come_while_their_item_runs(self, one_method, function, tmp_path, monkeypatch):
        """An item that goes on for long is heard meanwhile."""
        path = tmp_path / "seen"

        class Watching(io.StringIO):
            def write(self, text):
                if "I wait" in text:
                    path.touch()
                return super().write(text)

        monkeypatch.setattr(sys, "stdout", Watching())

        assert run(function, [path], one_method) == ["met"]

    def test_what_a_dying_item_printed_is_shown(self, processes, capsys):
        """If it was flushed."""
        with pytest.raises(amorsize.WorkerCrashError):
            run(workers.prints_then_dies, [0], processes)

        assert capsys.readouterr().out == "last words\n"

    def test_what_was_printed_before_an_error_is_shown(self, processes, capsys):
        """Under `on_error="raise"`, too."""
        with pytest.raises(KeyError):
            run(workers.prints_then_fails, [0], processes)

        assert capsys.readouterr().out == "before the error 0\n"

    def test_threads_of_an_item(self, one_method, capsys):
        """Their lines are whole."""
        run(workers.prints_in_threads, range(2), one_method)

        assert capsys.readouterr().out == "from a thread\n" * 800

    @posix
    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_a_process_that_an_item_forks(self, one_method, capfd):
        """It writes to its own descriptor, and repeats nothing of its parent's."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                run(workers.prints_by_a_fork, [0], one_method)

        assert shown.getvalue() == "parent\n"
        assert capfd.readouterr().out == "child\n"

    def test_an_item_keeps_its_own_stream(self, processes, capsys):
        """What it redirects is not relayed."""
        assert run(workers.redirects, range(2), processes) == ["kept\n"] * 2
        assert capsys.readouterr().out == ""

    def test_what_an_item_puts_there_is_gone_in_the_next_call(self, one_method, capsys):
        """As other changes to the process are."""
        run(workers.replaces_stdout, range(4), one_method)
        run(workers.prints, [1], one_method)

        assert capsys.readouterr().out == "line 1\n"

    def test_the_stand_in_answers_as_the_callers_stream(self, processes):
        """And its descriptor is that of the process."""

        class Terminal(io.StringIO):
            encoding = "latin-1"

            def isatty(self):
                return True

        with contextlib.redirect_stdout(Terminal()):
            told = run(workers.asks_the_stream, [0], processes)

        assert told == [(1, True, "latin-1", "strict", True, False)]

    def test_bytes_are_shown_as_text(self, one_method, capsys):
        """The stand-in has a `buffer`, and outlives who closes it."""
        run(workers.writes_bytes, [0], one_method)

        assert capsys.readouterr().out == "bytes ü\nwrapped\nafter close\n"

    def test_what_is_no_text_is_refused(self, one_method):
        """As by any text stream."""
        with pytest.raises(TypeError, match="must be str, not bytes"):
            run(workers.writes_no_text, [0], one_method)

    def test_programs_keep_the_descriptor(self, one_method, capfd):
        """What an item starts writes there itself."""
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            run(workers.starts_a_program, [0], one_method)

        assert (shown.getvalue(), capfd.readouterr().out) == ("", "program\n")

    @pytest.mark.parametrize("stream", [None, "closed"])
    def test_a_caller_without_a_stream(self, one_method, monkeypatch, stream):
        """Nothing is shown, and the results come all the same."""
        if stream is not None:
            stream = io.StringIO()
            stream.close()
        monkeypatch.setattr(sys, "stdout", stream)

        assert run(workers.prints, range(3), one_method) == [0, 1, 2]

    def test_what_the_callers_stream_cannot_encode(self, one_method, monkeypatch):
        """It is shown in escapes."""
        kept = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(kept, encoding="ascii", write_through=True))
        run(print, ["ü"], one_method)

        assert kept.getvalue().strip() == b"\\xfc"

    def test_an_initializer_is_heard(self, processes, capsys):
        """Once for each worker."""
        run(workers.prints, range(4), processes, initializer=workers.prepare)

        lines = capsys.readouterr().out.splitlines()
        assert 1 <= lines.count("prepared") <= 2
        assert lines[0] == "prepared"

    def test_an_initializer_that_fails_is_heard(self, one_method, capsys):
        """Before its error comes."""
        with pytest.raises(amorsize.InitializerError):
            run(workers.prints, range(4), one_method, initializer=workers.prepare_and_fail)

        assert "not prepared\n" in capsys.readouterr().out

    @posix
    def test_signal_handlers_that_raise_while_lines_are_sent(self, one_method):
        """No message is torn by them."""
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            assert run(workers.is_alarmed_while_it_prints, range(4), one_method) == [20] * 4

        assert "www\n" in shown.getvalue()

    def test_items_with_deadlines(self, one_method, capsys):
        """Their lines come as well."""
        run(workers.prints, range(4), one_method, timeout=30)

        assert len(capsys.readouterr().out.splitlines()) == 4

    def test_auto(self, capsys):
        """The caller's own items print as ever, and each line is there once."""
        list(amorsize.map(workers.prints_slowly, range(400), start_method="spawn"))

        lines = capsys.readouterr().out.splitlines()
        assert sorted(map(int, lines)) == list(range(400))

    @posix
    def test_the_thread_beside_a_long_first_item_shows_nothing(self, tmp_path, monkeypatch):
        """It would run the user's code; what it hears is shown in `next()`."""
        shown = []

        class Stream(io.StringIO):
            def write(self, text):
                shown.append((threading.current_thread(), text))
                return len(text)

        monkeypatch.setattr(sys, "stdout", Stream())
        items = [(number, str(tmp_path / "begun")) for number in range(20)]
        list(amorsize.map(workers.waits_for_another, items, start_method="forkserver", thread_safe=False))

        assert {thread for thread, _ in shown} == {threading.main_thread()}
        lines = "".join(text for _, text in shown).splitlines()
        assert sorted(lines) == sorted(f"line {number}" for number in range(20))


def refuse(*_):
    raise OSError("no process")


class TestRecords:
    """`logging`."""

    def test_levels_are_the_callers(self, processes, logged):
        """What the caller's logger would drop is dropped."""
        run(workers.logs_at_all_levels, [0], processes)

        assert [record.getMessage() for record in logged.records] == ["info of 0", "warning of 0", "error of 0"]

    def test_a_logger_with_a_level_of_its_own(self, processes, logged):
        """It is known in workers that were started before, too."""
        run(workers.logs_at_all_levels, [0], processes)
        logged.clear()
        logged.set_level(logging.ERROR, "relayed")
        run(workers.logs_at_all_levels, [1], processes)

        assert [record.getMessage() for record in logged.records] == ["error of 1"]

    def test_a_disabled_logger(self, processes, logged, monkeypatch):
        """Its records are dropped."""
        monkeypatch.setattr(logging.getLogger("relayed"), "disabled", True)
        run(workers.logs_at_all_levels, [0], processes)

        assert logged.records == []

    def test_logging_disabled_as_a_whole(self, one_method, logged):
        """Up to a level."""
        logging.disable(logging.WARNING)
        try:
            run(workers.logs_at_all_levels, [0], one_method)
        finally:
            logging.disable(logging.NOTSET)

        assert [record.levelname for record in logged.records] == ["ERROR"]

    def test_records_tell_the_item(self, processes, logged):
        """By its position in the input."""
        run(workers.logs_foreign, "abcdef", processes, chunksize=2)

        assert sorted(record.amorsize_index for record in logged.records) == list(range(6))
        assert {record.name for record in logged.records} == {workers.FOREIGN}

    def test_a_traceback_comes_as_text(self, processes, logged):
        """A formatter shows it."""
        run(workers.logs_an_error, [0], processes)

        (record,) = logged.records
        assert record.exc_info is None
        assert "KeyError: 'seven'" in logging.Formatter().format(record)

    def test_attributes_that_can_be_pickled_come_along(self, processes, logged):
        """The message is made in the worker, as its arguments may not be sent."""
        run(workers.logs_odd_things, [0], processes)

        (record,) = logged.records
        assert (record.getMessage(), record.args) == ("an odd thing", None)
        assert (record.parts, record.user) == ([1, 2], "me")
        assert not hasattr(record, "odd")

    def test_a_message_that_does_not_fit_its_arguments(self, one_method, logged, capsys):
        """It is shown as `logging` shows it."""
        run(workers.logs_badly, [0], one_method)

        assert "--- Logging error ---" in capsys.readouterr().err

    def test_the_order_is_kept(self, one_method, logged, monkeypatch):
        """Between lines and records of an item."""
        told = []

        class Telling(logging.Handler):
            def emit(self, record):
                told.append(record.getMessage())

        class Stream(io.StringIO):
            def write(self, text):
                told.append(text)
                return len(text)

        handler = Telling()
        logging.getLogger("relayed").addHandler(handler)
        monkeypatch.setattr(sys, "stdout", Stream())
        try:
            run(workers.logs_and_prints, [5], one_method)
        finally:
            logging.getLogger("relayed").removeHandler(handler)

        assert told == ["logged 5", "printed 5\n", "again 5"]

    def test_filters_run_once(self, processes, logged):
        """In the caller."""

        def mark(record):
            record.msg = f"<{record.msg}>"
            return True

        logging.getLogger("relayed").addFilter(mark)
        try:
            run(workers.logs_an_error, [0], processes)
        finally:
            logging.getLogger("relayed").removeFilter(mark)

        assert [record.getMessage() for record in logged.records] == ["<it failed>"]

    def test_a_handler_of_the_items_own(self, processes, logged, tmp_path):
        """It gets the record, and so does the caller."""
        path = tmp_path / "own.log"
        run(workers.logs_with_its_own_handler, [path], processes)

        assert path.read_text(encoding="utf-8") == "for both\n"
        assert [record.getMessage() for record in logged.records] == ["for both"]

    def test_a_handler_of_an_initializers(self, processes, logged, tmp_path):
        """It is the worker's own."""
        path = tmp_path / "worker.log"
        options = {**processes, "initializer": workers.adds_a_handler, "initargs": (path,)}
        run(workers.logs_an_error, [0], options)

        assert path.read_text(encoding="utf-8").startswith("it failed\nTraceback")
        assert [record.getMessage() for record in logged.records] == ["it failed"]

    def test_a_level_that_an_item_sets(self, one_method, logged):
        """It counts as it would in the caller."""
        logged.handler.setLevel(logging.DEBUG)
        run(workers.sets_a_level, [0], one_method)

        assert [record.getMessage() for record in logged.records] == ["it asked for this"]

    def test_a_queue_in_the_caller(self, one_method, logged):
        """A handler that passes records on finds them fit for it."""
        taken = queue.SimpleQueue()
        handler = logging.handlers.QueueHandler(taken)
        logging.getLogger("relayed").addHandler(handler)
        try:
            run(workers.logs_odd_things, [0], one_method)
        finally:
            logging.getLogger("relayed").removeHandler(handler)

        assert taken.get_nowait().getMessage() == "an odd thing"

    def test_a_handler_that_raises(self, one_method, logged, capsys):
        """It does not cost the call its results."""

        class Broken(logging.Handler):
            def handle(self, record):
                raise ZeroDivisionError

        handler = Broken()
        logging.getLogger("relayed").addHandler(handler)
        try:
            assert run(workers.logs_at_all_levels, range(2), one_method) == [None, None]
        finally:
            logging.getLogger("relayed").removeHandler(handler)

        assert "ZeroDivisionError" in capsys.readouterr().err

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_basic_config_shows_each_record_once(self, python, tmp_path, method):
        """Where a forked worker has inherited the handler, and where a fresh one has none."""
        done = python(write(tmp_path, f"logging.basicConfig(level=20, format='%(message)s')\nmain({method!r})"))

        assert sorted(done.stderr.splitlines()) == ["info 0", "info 1", "warning 0", "warning 1"]

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_logging_that_nobody_has_configured(self, python, tmp_path, method):
        """It shows warnings on `sys.stderr`, as in one process."""
        done = python(write(tmp_path, f"main({method!r})"))

        assert sorted(done.stderr.splitlines()) == ["warning 0", "warning 1"]


def write(folder, body):
    """Return the path of a program whose items log."""
    path = folder / "program.py"
    text = """
        import logging
        import amorsize

        def item(number):
            import logging
            logging.getLogger("program").info("info %d", number)
            logging.getLogger("program").warning("warning %d", number)

        def main(method):
            list(amorsize.map(item, range(2), backend="processes", n_jobs=2, start_method=method))

        if __name__ == "__main__":
    """
    path.write_text(textwrap.dedent(text) + textwrap.indent(body, "    ") + "\n", encoding="utf-8")
    return path


class TestWarnings:
    """`warnings`."""

    def test_a_warning_is_shown_once(self, processes, lenient):
        """By all workers together, and by later calls, as for one process."""
        for _ in range(2):
            run(workers.warns, range(20), processes, chunksize=2)

        (shown,) = lenient
        assert (str(shown.message), shown.category) == ("careful", UserWarning)
        assert Path(shown.filename).name == "relay_workers.py"

    def test_it_is_shown_again_when_the_caller_forgets(self, one_method):
        """As it would be in one process."""
        for _ in range(2):
            with warnings.catch_warnings(record=True) as shown:
                warnings.simplefilter("default")
                run(workers.warns, range(4), one_method)
            assert len(shown) == 1

    def test_what_the_caller_ignores_is_ignored(self, one_method, lenient):
        """By the module that warns, for example."""
        warnings.filterwarnings("ignore", module="relay_workers")
        run(workers.warns, range(4), one_method)

        assert lenient == []

    def test_always_is_always(self, one_method, lenient):
        """Each warning is shown."""
        warnings.simplefilter("always")
        run(workers.warns, range(6), one_method)

        assert len(lenient) == 6

    def test_a_filter_that_makes_errors(self, processes):
        """It raises in the item."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="careful") as caught:
                run(workers.warns, [0], processes)

        assert caught.value.amorsize_index == 0

    def test_a_filter_that_makes_errors_later(self, one_method, lenient):
        """Items that ran before have their results."""
        stream = amorsize.map(workers.warns, range(40), chunksize=1, **one_method)
        first = next(stream)
        warnings.simplefilter("error")
        try:
            rest = list(stream)
        except UserWarning:  # no item of this call began after that, as its filters are those of its beginning
            pytest.fail("a warning that was relayed has ended the call")

        assert [first, *rest] == list(range(40))

    def test_a_class_of_the_users(self, processes, lenient):
        """It comes over as an error's does."""
        run(workers.warns_in_its_own_way, [0], processes)

        (shown,) = lenient
        assert (shown.category, shown.message.first) == (workers.OurWarning, "this")

    def test_warnings_that_the_caller_logs(self, one_method, caplog):
        """They become log records once, there."""
        logging.captureWarnings(True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                run(workers.warns, [0], one_method)
        finally:
            logging.captureWarnings(False)

        (record,) = caplog.records
        assert (record.name, "careful" in record.getMessage()) == ("py.warnings", True)


class TestOff:
    """`relay=False`."""

    def test_a_worker_is_left_alone(self, processes):
        """Also if a call before it was relayed, and it is relayed again after it."""
        states = [run(workers.worker_state, [0], processes, relay=relay)[0] for relay in (True, False, True)]

        assert states[0] == states[2]
        assert states[0][0] == "amorsize.child.streams"
        assert "amorsize" not in "".join(states[1])

    def test_lines_go_to_the_descriptor(self, one_method, capfd):
        """As they did before."""
        with amorsize.config(relay=False), contextlib.redirect_stdout(io.StringIO()) as shown:
            run(workers.prints, [7], one_method)
        amorsize.shutdown()

        assert (shown.getvalue(), capfd.readouterr().out) == ("", "line 7\n")


class TestDecisions:
    """The logger `amorsize`."""

    def test_a_move_to_workers_is_one_line(self, logged):
        """At INFO, with the reason."""
        list(amorsize.map(workers.prints_slowly, range(400), start_method="spawn"))

        line = next(record.getMessage() for record in logged.records if record.name == "amorsize")
        assert line.startswith("prints_slowly goes to processes: 2 workers: ")

    def test_a_backend_that_was_named_is_no_decision(self, one_method, logged):
        """Nothing is said of it."""
        run(abs, range(4), one_method)

        assert logged.records == []

    def test_a_reason_to_stay_is_one_line(self, logged, monkeypatch):
        """With the reason, too."""
        monkeypatch.setattr(lease.idle, "take", refuse)
        list(amorsize.map(workers.prints_slowly, range(400), start_method="spawn"))

        lines = [record.getMessage() for record in logged.records if record.name == "amorsize"]
        assert len(lines) == 1
        assert "prints_slowly stays in the caller: OSError('no process')" in lines[0]

    def test_a_call_of_the_callers_says_nothing(self, logged):
        """Where nothing was decided."""
        list(amorsize.map(abs, range(4)))

        assert logged.records == []
