"""CPython's own test of the builtin, run on `amorsize.map` in its place."""

from __future__ import annotations

import unittest

import pytest

import amorsize

test_builtin = pytest.importorskip("test.test_builtin", reason="this Python comes without its `test` package")

# The first is in every Python here; the others came with `strict`, in 3.14.
NAMES = ("test_map", "test_map_strict", "test_map_strict_error_handling")


@pytest.mark.parametrize("backend", ["auto", "threads"])
@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(test_builtin.BuiltinTest, name)])
def test_builtin_map(name, backend, monkeypatch):
    """The module's global `map` is ours, and its tests pass, whatever backend the whole process is to use."""
    monkeypatch.setenv("AMORSIZE_BACKEND", backend)
    monkeypatch.setattr(test_builtin, "map", amorsize.map, raising=False)
    result = unittest.TestResult()

    test_builtin.BuiltinTest(name).run(result)

    assert result.testsRun == 1
    assert result.errors + result.failures + result.skipped == []
