"""Do other projects' own tests pass with `builtins.map = amorsize.map`? Of libraries that are all about iterators.

    python benchmarks/foreign_suites.py

Fetches the sources of toolz and more-itertools with pip, into a folder that is removed, and runs their suites in a
virtual environment of their own, with the builtin, with `amorsize.map` in its place, and with that and
AMORSIZE_BACKEND=serial. The plugin is `tests/replace_builtin_map.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
RESULTS = TREE / "benchmarks" / "results" / "foreign_suites.txt"
# Name, where its tests are in its sources, and which are left out beside ours: `test_has_keywords` says that `map`
# takes no keywords before CPython 3.14, and ours does.
PROJECTS = (("toolz", "toolz/tests", ("test_has_keywords",)), ("more-itertools", "tests", ()))
WAYS = {
    "the builtin": {},
    "amorsize.map": {"PYTEST_ADDOPTS": "-p replace_builtin_map"},
    "amorsize.map, serial": {"PYTEST_ADDOPTS": "-p replace_builtin_map", "AMORSIZE_BACKEND": "serial"},
}


def run(*command: object, folder: Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    given = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=given, capture_output=True, text=True, check=False
    )


def sources(python: Path, project: str, folder: Path) -> Path:
    """Fetch a project's sources and return where they are."""
    options = ("--no-deps", "--no-binary", ":all:", "-d", folder)
    fetched = run(python, "-m", "pip", "download", "-q", *options, project, folder=folder)
    archive = next(folder.glob("*.tar.gz"), None)
    if archive is None:
        raise SystemExit(fetched.stderr)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def main() -> None:
    """Run all and print what each says at its end."""
    lines = []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        venv.create(home / "venv", with_pip=True)
        python = home / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        needed = ("pytest", TREE)
        run(python, "-m", "pip", "install", "-q", *needed, folder=home).check_returncode()
        for project, tests, left_out in PROJECTS:
            folder = home / project
            folder.mkdir()
            root = sources(python, project, folder)
            for way, environ in WAYS.items():
                path = os.pathsep.join([str(root), str(TREE / "tests")])
                command = [python, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", tests]
                if environ and left_out:
                    command += ["-k", " and ".join(f"not {test}" for test in left_out)]
                done = run(*command, folder=root, environ={**environ, "PYTHONPATH": path})
                told = done.stdout.strip().splitlines()[-1:] or done.stderr.strip().splitlines()[-1:]
                lines.append(f"{root.name:<24} {way:<22} {told[0] if told else ''}")
                print(lines[-1], flush=True)
                if done.returncode:
                    print("\n".join(done.stdout.splitlines()[-60:]))
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
