from __future__ import annotations

import os
from pathlib import Path

import amorsize

TREE = Path(__file__).parents[1]
INSTALLED = Path(amorsize.__file__).parent


def test_the_amorsize_under_test_is_the_installed_one():
    """Under tox the tests see the wheel that was built, not the tree beside them."""
    environment = os.environ.get("TOX_ENV_DIR")
    assert Path(environment or TREE) in INSTALLED.parents


def test_the_installed_package_is_whole():
    """Every module of the tree, the mark that the types are for others too, and the timeline's parts are installed."""
    expected = {path.relative_to(TREE / "amorsize") for path in (TREE / "amorsize").rglob("*.py")}
    installed = {path.relative_to(INSTALLED) for path in INSTALLED.rglob("*.py")}
    assert installed == expected
    assert (INSTALLED / "py.typed").is_file()
    assert all((INSTALLED / "report" / f"timeline.{kind}").is_file() for kind in ("css", "html", "js"))
