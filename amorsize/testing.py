"""How does a test keep clear of what other runs measured? It uses this pytest fixture, as amorsize's own tests do.

Write in `conftest.py`, at the root of the tests:

    pytest_plugins = ["amorsize.testing"]

and let a test, a module (`pytestmark = pytest.mark.usefixtures("amorsize_cache")`) or another fixture ask for
`amorsize_cache`. This module imports pytest, and nothing else in amorsize imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .state import reset_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["amorsize_cache"]


@pytest.fixture
def amorsize_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test, and every process it starts, an empty cache of its own, and yield the folder the cache lies in.

    The test knows nothing that was measured before it, and nothing that it measures is known afterwards.

    >>> def test_is_measured_anew(amorsize_cache):  # doctest: +SKIP
    ...     assert not amorsize.optimize(work, range(100)).cache_hit
    ...     assert amorsize.optimize(work, range(100)).cache_hit
    """
    folder = tmp_path.with_name(f"{tmp_path.name}-amorsize-cache")  # a test may list all that is in `tmp_path`
    monkeypatch.setenv("AMORSIZE_CACHE_DIR", str(folder))
    reset_all()
    yield folder
    reset_all()
