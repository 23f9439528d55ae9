"""Results that outlive a kill: each finished result is a line of a file, and a later call takes it from there.

A line is JSON: the digest of the function, the key of the item, how many equal items came before it, its position when
it ran, and the result. Results that are JSON themselves stand there as they are; others are pickled, and are read back
only from a file that belongs to this user. A line is written whole before its result is handed out, so a kill leaves at
most one line that is torn, the last one, which the next writer cuts off. What was written survives the process at once,
and a crash of the machine after a tenth of a second.

One process writes at a time. The lock is on a file beside the journal, by record (`lockf`), which forked children do
not inherit, and which goes away with its process, however that ends.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import warnings
from _thread import RLock  # `threading.RLock`, without the import of `threading`
from math import isfinite
from time import monotonic

from .errors import AmorsizeError, let_signals_through
from .lean import NamedTuple
from .log import debug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["Entry", "Journal", "JournalError", "Key", "own_value", "read"]

_HEADER = {"amorsize": "journal", "format": 1}
_SYNC_SECONDS = 0.1
_PROTOCOL = 5
_reading = RLock()
# The locks that this process has, and its number: the system would not refuse it a second one.
_held: dict[str, int] = {}


class JournalError(AmorsizeError, OSError):
    """A journal cannot be used: the file is none, another writes it, or it belongs to somebody else."""


class Key(NamedTuple):
    """What a result is the result of.

    Attributes:
        function: digest of the function.
        item: digest of the item and, where that matters, of seed and position.
        nth: how many equal items came before this one.
    """

    function: bytes
    item: bytes
    nth: int


class Entry(NamedTuple):
    """One line of a journal.

    Attributes:
        key: what it is the result of.
        position: the item's in the input of the call that ran it.
        is_json: whether the result is JSON; else it is pickled.
        result: as it stands in the line.
    """

    key: Key
    position: int
    is_json: bool
    result: Any


class Journal:
    """A file of finished results, for the option `journal=`. A path does the same, with the defaults of this class.

    Args:
        path: the file, which is made if there is none.
        any_function: whether results of other functions, such as an earlier version of this one, are taken as well.

    >>> import amorsize, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for turn in range(2):  # the second time, nothing runs
    ...         print(list(amorsize.map(len, ["a", "bb"], journal=os.path.join(folder, "lengths"))))
    [1, 2]
    [1, 2]
    """

    def __init__(self, path: str | os.PathLike[str], *, any_function: bool = False) -> None:
        self.path = os.fspath(path)
        self.any_function = any_function
        self._places: dict[Key, tuple[int, int]] = {}  # where each line is, and how long
        self._file = -1
        self._lock_file = -1
        self._lock = RLock()
        self._synced_at = 0.0
        self._full = False

    def __repr__(self) -> str:
        return f"Journal({self.path!r}{', any_function=True' if self.any_function else ''})"

    def open(self) -> None:
        """Become the one who writes, and read where the results are.

        Raises:
            JournalError: another process or call writes it, or the file is no journal.
        """
        with self._lock:
            if self._file >= 0:
                raise JournalError(f"{self.path} is being written by another call of this process")
            self._lock_file = _locked(self.path)
            try:
                self._file = _opened(self.path)
                self._places.clear()
                self._full = False
                end = 0
                for start, line in _lines(self._file):
                    entry = _parsed(line)
                    end = start + len(line)
                    if entry is not None:
                        self._places[self._found_by(entry.key)] = start, len(line)
                os.truncate(self._file, end)  # a line that a kill has torn
                if end == 0:
                    self._append(_line(_HEADER))
            except BaseException:
                self.close()
                raise

    def _found_by(self, key: Key) -> Key:
        return key._replace(function=b"") if self.any_function else key

    def has(self, key: Key) -> bool:
        """Say whether there is a result for this."""
        return self._found_by(key) in self._places

    def get(self, key: Key) -> Any:
        """Return a result that is there.

        Raises:
            JournalError: the result is pickled, and the file is not this user's.
        """
        start, length = self._places[self._found_by(key)]
        entry = _parsed(_read_at(self._file, length, start))
        assert entry is not None
        return _value(self.path, os.fstat(self._file), entry)

    def add(self, results: Iterable[tuple[Key, int, Any]]) -> None:
        """Write results, each with its key and its item's position. What cannot be written is warned of, once."""
        lines = [line for key, index, value in results if (line := _entry_line(key, index, value))]
        if not lines or self._full:
            return
        with self._lock:
            if self._file < 0:
                return
            size = os.fstat(self._file).st_size
            try:
                self._append(b"".join(lines))
            except OSError as error:
                let_signals_through(error)
                self._full = True
                os.truncate(self._file, size)
                text = f"amorsize: {self.path} cannot be written, and the call goes on without it: {error}"
                warnings.warn(text, RuntimeWarning, stacklevel=2)

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        if monotonic() - self._synced_at >= _SYNC_SECONDS:
            os.fsync(self._file)
            self._synced_at = monotonic()

    def close(self) -> None:
        """Let others write. It may be called twice."""
        with self._lock:
            file, self._file = self._file, -1
            lock_file, self._lock_file = self._lock_file, -1
            try:
                if file >= 0:
                    os.fsync(file)
            finally:
                if file >= 0:
                    os.close(file)
                if lock_file >= 0:
                    _unlock(self.path, lock_file)


def read(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Yield the entries of a journal, which another process may be writing.

    Raises:
        JournalError: the file is no journal.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        _check(file, os.fspath(path))
        for _, line in _lines(file):
            entry = _parsed(line)
            if entry is not None:
                yield entry
    finally:
        os.close(file)


def _opened(path: str) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    try:
        _check(file, path)
    except BaseException:
        os.close(file)
        raise
    return file


def _check(file: int, path: str) -> None:
    header = _line(_HEADER)
    begin = _read_at(file, len(header), 0)
    if begin and not header.startswith(begin):
        raise JournalError(f"{path} is not a journal of this format, and is left as it is")


def _lines(file: int) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines of a file, each with the place where it begins."""
    place, rest = 0, b""
    while data := _read_at(file, 1 << 20, place + len(rest)):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield place, line + b"\n"
            place += len(line) + 1


def _read_at(file: int, length: int, place: int) -> bytes:
    if sys.platform != "win32":
        return os.pread(file, length, place)
    with _reading:
        os.lseek(file, place, os.SEEK_SET)
        return os.read(file, length)


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _entry_line(key: Key, index: int, value: Any) -> bytes:
    content: dict[str, Any] = {"f": key.function.hex(), "i": key.item.hex(), "n": key.nth, "x": index}
    if _is_json(value):
        return _line({**content, "j": value})
    try:
        data = pickle.dumps(value, _PROTOCOL)
    except Exception as error:  # noqa: BLE001 - any class may raise anything; the result is handed out all the same
        let_signals_through(error)
        text = f"amorsize: the result of item {index} cannot be kept in a journal, and would be made again: {error}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return b""
    return _line({**content, "p": base64.b64encode(data).decode()})


def _is_json(value: Any) -> bool:
    """Say whether JSON gives this value back as it is, by its exact types."""
    kind = type(value)
    if kind in {type(None), bool, int}:
        return True
    if kind is str:
        return value.isascii() or max(value) < "\ud800" or min(value) > "\udfff" or _is_text(value)
    if kind is float:
        return isfinite(value)
    if kind is list:
        return all(_is_json(part) for part in value)
    if kind is dict:
        return all(type(name) is str and _is_json(name) and _is_json(part) for name, part in value.items())
    return False


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # it has a lone half of a pair
        return False
    return True


def _parsed(line: bytes) -> Entry | None:
    """Return the entry of a line; None for the header, and for what is none."""
    try:
        content = json.loads(line)
        key = Key(bytes.fromhex(content["f"]), bytes.fromhex(content["i"]), content["n"])
        is_json = "j" in content
        return Entry(key, content["x"], is_json, content["j"] if is_json else content["p"])
    except (ValueError, KeyError, TypeError, RecursionError):
        if line != _line(_HEADER):
            debug("a line of a journal is not understood, and is passed over: %.80r", line)
        return None


def own_value(path: str | os.PathLike[str], entry: Entry) -> Any:
    """Return the result of an entry of a journal.

    Raises:
        JournalError: it is pickled, and the file is not this user's.
    """
    return _value(os.fspath(path), os.stat(path), entry)


def _value(path: str, found: os.stat_result, entry: Entry) -> Any:
    if entry.is_json:
        return entry.result
    if sys.platform != "win32" and found.st_uid != os.geteuid():
        raise JournalError(f"{path} has pickled results and belongs to another user, so they are not read")
    return pickle.loads(base64.b64decode(entry.result))


def _locked(path: str) -> int:
    """Return the descriptor of the locked file beside a journal."""
    name = f"{path}.lock"
    if _held.get(os.path.realpath(name)) == os.getpid():
        raise JournalError(f"{path} is being written by another call of this process")
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(file)
            # Whoever had it before may have removed the file in between.
            if os.path.exists(name) and os.path.samestat(os.stat(name), os.fstat(file)):
                _held[os.path.realpath(name)] = os.getpid()
                return file
        except OSError as error:
            os.close(file)
            let_signals_through(error)
            raise JournalError(f"{path} is being written by another process ({name} is locked)") from error
        os.close(file)


def _unlock(path: str, file: int) -> None:
    name = f"{path}.lock"
    _held.pop(os.path.realpath(name), None)
    try:
        os.unlink(name)
    except OSError as error:  # Windows keeps files that are open
        let_signals_through(error)
    os.close(file)


def _lock(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        from fcntl import LOCK_EX, LOCK_NB, lockf

        lockf(file, LOCK_EX | LOCK_NB)
