"""How are plain values written as text and read again? As JSON, without importing `json`."""

from __future__ import annotations

try:
    # `json` itself reads and writes with these. Importing `json` costs 5 ms, most of it for regular expressions.
    from _json import encode_basestring_ascii, make_encoder, make_scanner
except ImportError:  # this is not CPython
    make_encoder = make_scanner = None  # type: ignore[assignment,misc]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["parsed", "written"]


def written(value: Any) -> str:
    """Return a value as JSON text, with each member of an object on a line of its own, or raise ValueError."""
    separators = (",\n", ": ")
    if make_encoder is None:
        import json

        return json.dumps(value, separators=separators, allow_nan=False)
    comma, colon = separators
    refuse: Any = None
    encode = make_encoder(None, refuse, encode_basestring_ascii, None, colon, comma, False, False, False)
    return "".join(encode(value, 0))


class _Strictly:
    """Tells the scanner of `json` to read as `json.loads` does by default, but to refuse NaN and infinities."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is not a number")


def parsed(text: str) -> Any:
    """Return the value that JSON text stands for, or raise ValueError."""
    if make_scanner is None:
        import json

        return json.loads(text, parse_constant=_Strictly.parse_constant)
    text = text.strip(" \t\n\r")
    try:
        content, end = make_scanner(_Strictly)(text, 0)  # type: ignore[arg-type]  # it asks for these attributes only
    except (StopIteration, SystemError):
        # Older CPythons' scanner fails without saying why as long as nobody has imported `json.decoder`.
        raise ValueError("no JSON value where one is expected") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return content
