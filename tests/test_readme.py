from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import amorsize

TREE = Path(__file__).parents[1]
README = (TREE / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """List the README's code blocks of one language, each with the heading that it stands under."""
    heading, found = "", []
    for match in re.finditer(r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        elif match[2] == language:
            found.append((heading, match[3]))
    return found


def run_script(path, cache_folder):
    """Run a script in a Python of its own, warnings being errors, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AMORSIZE_")}
    environment["AMORSIZE_CACHE_DIR"] = str(cache_folder)
    # The amorsize that this suite tests, wherever it was imported from.
    environment["PYTHONPATH"] = str(Path(amorsize.__file__).parents[1])
    child = subprocess.run(
        [sys.executable, "-W", "error", path], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert (child.returncode, child.stderr) == (0, "")
    return child.stdout


TOUR = [pytest.param(code, id=f"{number}: {heading}") for number, (heading, code) in enumerate(blocks("python"), 1)]


@pytest.mark.slow
@pytest.mark.parametrize("code", TOUR)
def test_each_block_of_the_tour_prints_what_it_says(tmp_path, code):
    """A block runs by itself as a script, and each `print` gives the comment behind it."""
    script = tmp_path / "tour.py"
    script.write_text(code, encoding="utf-8")
    promised = re.findall(r"^ *print\(.*\)  # (.+)$", code, re.MULTILINE)
    assert promised, "a block that prints nothing shows nothing"
    assert len(promised) == code.count("print(")
    assert run_script(script, tmp_path / "cache").splitlines() == promised


def test_every_block_is_a_python_or_a_shell_block():
    """A block of another language would be run by no test."""
    assert len(re.findall(r"^```", README, re.MULTILINE)) == 2 * (len(blocks("python")) + len(blocks("sh")))


def test_there_are_two_commands_of_one_line_each():
    """One line runs the demo and one the tests, each in an environment that it makes; `.ci/run` runs them from here."""
    demo_command, test_command = (code for _, code in blocks("sh"))
    for command, end in ((demo_command, ".venv/bin/amorsize demo\n"), (test_command, ".venv/bin/tox run -e py\n")):
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && ")
        assert command.endswith(end)


def test_every_link_leads_somewhere():
    """A link inside the repository names a file that is there."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (TREE / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in (TREE / "examples").glob("*.py")))
def test_each_example_runs(tmp_path, name):
    """An example ends well with its default arguments, silent on standard error, and prints something."""
    assert run_script(TREE / "examples" / name, tmp_path / "cache")
