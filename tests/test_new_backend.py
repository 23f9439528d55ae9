"""A backend is a module and a row: with those two, all that users are promised holds over it."""

from __future__ import annotations

import pytest
import toy_backend
from test_contract import *  # noqa: F403 - every test of the contract, over the toy

import amorsize
from amorsize.backends import rows


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Let the row stand among the others."""
    monkeypatch.setattr(rows, "ROWS", [*rows.ROWS, toy_backend.ROW])


@pytest.fixture
def anywhere(registered):
    return {"backend": "toy", "n_jobs": 2}


@pytest.fixture
def backend(registered):
    return {"backend": "toy", "n_jobs": 2}


@pytest.fixture
def processes():
    pytest.skip("what crosses between processes is the other rows' affair")


def test_its_name_is_an_option():
    """It is known where options are checked, and told where they are refused."""
    assert list(amorsize.map(abs, [-1], backend="toy")) == [1]
    with pytest.raises(ValueError, match="'toy'"):
        amorsize.map(abs, [-1], backend="boy")


def test_it_runs_the_items():
    """They run in this process, in chunks, and the plan says where."""
    stream = amorsize.map(abs, range(-5, 0), backend="toy", n_jobs=3, chunksize=2)

    assert list(stream) == [5, 4, 3, 2, 1]
    assert (stream.plan.backend, stream.plan.n_jobs) == ("toy", 3)


def test_what_it_cannot_do_is_refused():
    """By what its row says it can."""
    with pytest.raises(amorsize.UnsupportedError, match="stopped"):
        amorsize.map(abs, [-1], backend="toy", timeout=1)
