"""What the files that a report is written to have in common: plain numbers, plain text, and where they go."""

from __future__ import annotations

from math import isfinite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike

__all__ = ["finite", "plain", "write"]


def finite(number: float) -> float:
    """Return the number, or 0 for one that is not finite, which JSON has no form for.

    >>> finite(1.5), finite(float("nan")), finite(float("-inf"))
    (1.5, 0.0, 0.0)
    """
    return number if isfinite(number) else 0.0


def plain(text: str, most: int) -> str:
    r"""Return a text that every encoding and parser takes: no lone surrogates, and so many characters at most.

    Args:
        text: any text, such as a function's name or an error's.
        most: how many characters may be kept; what is left out becomes an ellipsis.

    >>> plain("a\ud800b", 10), plain("abcdef", 4)
    ('a\ufffdb', 'abc…')
    """
    if len(text) > most:
        text = text[: most - 1] + "…"
    # UTF-16 is the encoding that joins a pair of surrogates, which a text may hold as two characters.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def write(path: str | PathLike[str], content: bytes) -> None:
    """Write a file that was made whole before; what was there is replaced.

    Args:
        path: where to.
        content: all of the file.

    Raises:
        OSError: it cannot be written; the error names the path.
    """
    from os import fspath

    path = fspath(path)
    try:
        with open(path, "wb") as file:
            file.write(content)
    except OSError as error:  # a full disk, unlike a missing folder, does not say which file it was about
        if error.filename is None:
            error.filename = path
        raise
