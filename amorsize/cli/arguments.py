"""What do the words `MODULE:FUNC` and `FILE` of a command stand for?"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WrongArgument", "find_function", "open_input"]


class WrongArgument(ValueError):
    """An argument of the command is wrong; the text says which, and how."""


def find_function(text: str) -> Callable[..., Any]:
    """Return the function that `MODULE:FUNC` names; the current folder is searched, too.

    Raises:
        WrongArgument: there is none; the text says what is missing.
    """
    module, colon, path = text.partition(":")
    if not (module and colon and path):
        raise WrongArgument(f"{text!r} is not of the form MODULE:FUNC")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except Exception as error:  # the user's module may raise anything
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
    if file in {None, "-"}:
        return 0
    try:
        return os.open(str(file), os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise WrongArgument(f"{file} cannot be read: {error.strerror}") from error
