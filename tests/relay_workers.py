"""What items say in workers: importable, so that every start method finds it."""

# ruff: noqa: T201 - printing is what they are for

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

logger = logging.getLogger("relayed")
FOREIGN = "somebody.else"


def prints(number):
    print("line", number)
    return number


def prints_slowly(number):
    """Take some milliseconds."""
    sum(range(100_000))
    print(number)


def prints_to_both(number):
    print("out", number)
    print("err", number, file=sys.stderr)


def prints_long_lines(number):
    """Write each line in many parts."""
    for _ in range(20):
        for _ in range(50):
            sys.stdout.write(f"{number}")
        sys.stdout.write("\n")


def prints_dots(number):
    print(".", end="")


def prints_much(number):
    """Write a megabyte, in lines of 100 characters."""
    for _ in range(10_000):
        print("x" * 99)


def prints_one_text(size):
    print("y" * size)


def prints_without_end(size):
    """Write one line, in parts of a thousand characters."""
    for _ in range(size // 1000):
        print("z" * 1000, end="")


def prints_and_waits(path):
    """Print, and wait until the file is there, which whoever sees the line makes."""
    print("I wait")
    waits(path)
    return "met"


def waits(path):
    until = time.monotonic() + 30
    while not Path(path).exists():
        assert time.monotonic() < until, "nobody saw what was printed"
        time.sleep(0.002)  # how often it is looked at


def prints_twice_and_waits(path):
    print("first")
    return prints_and_waits(path)


def prints_then_dies(number):
    print("last words", flush=True)
    os._exit(3)


def prints_then_fails(number):
    print("before the error", number)
    raise KeyError(number)


def prints_in_threads(number):
    def say():
        for _ in range(100):
            print("from a thread")

    threads = [threading.Thread(target=say) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def prints_by_a_fork(number):
    """Print in this process and in one that it forks."""
    print("parent")
    pid = os.fork()
    if pid == 0:
        print("child")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)


def redirects(number):
    with contextlib.redirect_stdout(io.StringIO()) as kept:
        print("kept")
    return kept.getvalue()


def replaces_stdout(number):
    """Put something else there for good."""
    sys.stdout = io.StringIO()
    print("lost")


def asks_the_stream(number):
    stream = sys.stdout
    stream.reconfigure(line_buffering=True)
    return stream.fileno(), stream.isatty(), stream.encoding, stream.errors, stream.writable(), stream.closed


def writes_bytes(number):
    sys.stdout.buffer.write("bytes ü\n".encode())
    sys.stdout.buffer.flush()
    wrapped = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    wrapped.write("wrapped\n")
    del wrapped
    sys.stdout.close()
    print("after close")


def writes_no_text(number):
    sys.stdout.write(b"no text")


def starts_a_program(number):
    subprocess.run([sys.executable, "-c", "print('program')"], stdout=sys.stdout, check=True)


def is_alarmed_while_it_prints(number):
    """Be struck by many alarms that raise, while lines are on their way."""

    class Alarm(Exception):
        pass

    def strike(signum, frame):
        raise Alarm

    signal.signal(signal.SIGALRM, strike)
    struck = 0
    for _ in range(20):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            while True:
                print("w" * 5000)
        except Alarm:
            struck += 1
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return struck


def logs_at_all_levels(number):
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)("%s of %d", level, number)


def logs_foreign(number):
    logging.getLogger(FOREIGN).warning("foreign")


def logs_an_error(number):
    try:
        raise KeyError("seven")
    except KeyError:
        logger.exception("it failed")


class Odd:
    """Cannot be pickled, but has a text."""

    def __reduce__(self):
        raise TypeError("odd")

    def __str__(self):
        return "an odd thing"


def logs_odd_things(number):
    logger.warning("%s", Odd(), extra={"odd": Odd(), "parts": [1, 2], "user": "me"})


def logs_badly(number):
    logger.warning("%d", "no number")


def logs_and_prints(number):
    logger.warning("logged %d", number)
    print("printed", number)
    logger.warning("again %d", number)


def logs_with_its_own_handler(path):
    handler = logging.FileHandler(path)
    logger.addHandler(handler)
    try:
        logger.warning("for both")
    finally:
        logger.removeHandler(handler)
        handler.close()


def sets_a_level(number):
    logger.setLevel(logging.DEBUG)
    logger.debug("it asked for this")


def warns(number):
    warnings.warn("careful", UserWarning, stacklevel=1)
    return number


class OurWarning(UserWarning):
    """Has arguments of its own."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first


def warns_in_its_own_way(number):
    warnings.warn(OurWarning("this", "that"), stacklevel=1)


def waits_for_another(argument):
    """Print; the first item goes on when another one has begun."""
    number, path = argument
    if number == 0:
        waits(path)
    else:
        Path(path).touch()
    print("line", number)


def adds_a_handler(path):
    logger.addHandler(logging.FileHandler(path))


def prepare():
    print("prepared")


def prepare_and_fail():
    print("not prepared")
    raise OSError("no licence")


def worker_state(_):
    """Tell what relaying has put into this process."""
    return type(sys.stdout).__module__, logging.Logger.handle.__module__, warnings.showwarning.__module__
