"""What do the words `MODULE:FUNC` and `FILE` of a command stand for?"""

from __future__ import annotations

import importlib
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from ..errors import let_signals_through

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

__all__ = ["WrongArgument", "find_function", "forget", "open_input", "open_output"]


class WrongArgument(ValueError):
    """An argument of the command is wrong; the text says which, and how."""


def find_function(text: str) -> Callable[..., Any]:
    """Return the function that `MODULE:FUNC` names; the current folder is searched, too, unless Python is not to.

    Raises:
        WrongArgument: there is none; the text says what is missing.
    """
    module, colon, path = text.partition(":")
    if not (module and colon and path):
        raise WrongArgument(f"{text!r} is not of the form MODULE:FUNC")
    if not (getattr(sys.flags, "safe_path", False) or "" in sys.path or os.getcwd() in sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        raise WrongArgument(f"the module {module!r} cannot be imported: {type(error).__name__}: {error}") from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise WrongArgument(f"{module!r} has no {path!r}") from None
    if not callable(found):
        raise WrongArgument(f"{text} is not a function, but {type(found).__name__}")
    return found


def open_input(file: str | None) -> int:
    """Return the descriptor of a file of lines; standard input for None and "-".

    Raises:
        WrongArgument: it cannot be opened.
    """
    name = "standard input" if file in {None, "-"} else str(file)
    try:
        opened = 0 if file in {None, "-"} else os.open(name, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
    except OSError as error:
        raise WrongArgument(f"{name} cannot be read: {error.strerror}") from error
    if is_folder:
        raise WrongArgument(f"{name} is a folder")
    return opened


def open_output() -> int:
    """Return the descriptor of standard output.

    Raises:
        WrongArgument: it is closed.
    """
    try:
        return sys.stdout.fileno()
    except (AttributeError, OSError, ValueError) as error:
        raise WrongArgument("standard output is closed") from error


def forget(stream: TextIO) -> None:
    """Have Python complain of nothing when it flushes a standard stream at exit that nobody reads any more."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (AttributeError, OSError, ValueError) as error:  # it is closed
        let_signals_through(error)
