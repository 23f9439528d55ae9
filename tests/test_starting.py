"""Which start method a call under "auto" takes."""

from __future__ import annotations

import multiprocessing

import pytest

import amorsize
from amorsize.call.starting import Starting
from amorsize.measure import machine
from amorsize.options import DEFAULTS

pytestmark = pytest.mark.skipif(
    not {"fork", "forkserver"} <= set(multiprocessing.get_all_start_methods()), reason="this platform has one method"
)


@pytest.fixture
def _one_thread(monkeypatch):
    monkeypatch.setattr(machine, "start_method", lambda requested=None: requested or "fork")


def warm():
    """Leave two warm workers; not in a fixture, because pytest has another environment there."""
    list(amorsize.map(abs, range(4), backend="processes", n_jobs=2, start_method="forkserver"))


@pytest.mark.usefixtures("_one_thread")
class TestWarmWorkers:
    """Those that were started when a fork was not safe serve calls that might fork."""

    def test_they_are_taken(self):
        """They run, and forked ones would have to be started."""
        warm()
        starting = Starting(DEFAULTS)

        assert starting.warm_workers() == 2
        assert starting.method() == starting.method_now() == "forkserver"

    def test_not_if_the_user_has_named_a_method(self):
        """The user has a reason."""
        warm()
        starting = Starting(DEFAULTS._replace(start_method="fork"))

        assert starting.warm_workers() == 0
        assert starting.method() == starting.method_now() == "fork"


@pytest.mark.usefixtures("_one_thread")
def test_without_warm_workers_a_call_forks():
    """It is the quickest start."""
    starting = Starting(DEFAULTS)

    assert starting.method() == starting.method_now() == "fork"
