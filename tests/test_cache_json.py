"""An entry's file is read and written as the json module would do it."""

from __future__ import annotations

import json
import sys

import pytest

from amorsize.cache import json_text
from amorsize.cache.json_text import parsed, written

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def read(parse, text):
    """Return what a reader makes of a text, an error as its being one."""
    try:
        return parse(text)
    except ValueError:
        return ValueError


@hypothesis.given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_what_json_writes(value, indent, plain):
    """Every value comes back."""
    assert parsed(json.dumps(value, indent=indent, ensure_ascii=plain)) == value


@hypothesis.given(st.text(alphabet='{}[]",:0123456789.-+eEntrufalsINy \\\n\t\x00', max_size=30))
def test_any_text(text):
    """What is no JSON is refused, as by `json.loads`, and its NaN and infinities are too."""
    expected = read(json.loads, text)
    if read(lambda text: json.loads(text, parse_constant=int), text) is ValueError:  # a constant, or no JSON at all
        expected = ValueError
    assert read(parsed, text) == expected


@hypothesis.given(VALUES)
def test_what_json_reads(value):
    """Every value comes back through `json`, and is written as it writes."""
    text = written(value)
    assert json.loads(text) == value
    assert text == json.dumps(value, separators=(",\n", ": "))


def test_infinity_is_notwritten():
    """It is no JSON."""
    with pytest.raises(ValueError, match="JSON"):
        written([float("inf")])


def test_without_the_encoder(monkeypatch):
    """Where the interpreter has no such encoder, `json` itself writes the same."""
    value = {"a": [1, 2.5, None]}
    text = written(value)
    monkeypatch.setattr(json_text, "make_encoder", None)
    assert written(value) == text


def test_without_the_scanner(monkeypatch):
    """Where the interpreter has no such scanner, `json` itself reads."""
    monkeypatch.setattr(json_text, "make_scanner", None)
    assert parsed('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    with pytest.raises(ValueError, match="NaN"):
        parsed("NaN")


@pytest.mark.parametrize("text", ['{"a": 1, "', '{"a" 1}', "[1,", '"\\u12', "{"])
def test_what_is_cut_off_is_no_value_in_a_process_without_json(text, monkeypatch):
    """The scanner looks for the error's class in a module that few processes have loaded."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "json"]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(ValueError, match=r"."):
        parsed(text)
