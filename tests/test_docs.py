"""The examples of the pages in docs/ run as they stand there, on clusters of this machine."""

from __future__ import annotations

import re
from pathlib import Path

import engines
import pytest

PAGE = Path(__file__).parents[1] / "docs" / "clusters.md"
pytestmark = [pytest.mark.engines, pytest.mark.slow, *engines.QUIET]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: re.search(r"backend=[\w\"]+|$", block)[0] or "laptop")
def test_a_block_runs_as_it_stands(block, tmp_path, python):
    """It gives what the builtin would."""
    script = tmp_path / "script.py"
    expected = str(sum(range(1000)[number] ** 2 for number in range(1000)))
    if "simulate" in block:
        expected = str(sum(sum(float((seed * step) % 7) for step in range(20_000)) for seed in range(200)))
    if '"ray"' in block:
        pytest.importorskip("ray", reason="there is no build of Ray for this Python, or it is not installed")
    if "tcp://head:8786" in block:
        with engines.dask_cluster() as client:
            script.write_text(block.replace("tcp://head:8786", client.scheduler.address))
            child = python(script)
    else:
        if '"dask"' in block:
            pytest.importorskip("distributed")
        script.write_text(block)
        child = python(script)

    assert child.stdout.strip() == expected, child.stderr


def test_the_page_has_examples():
    """Of each engine."""
    assert len(BLOCKS) == 5
