"""What the standard Pool does not survive, and our workers do.

    python benchmarks/hazards.py

Each hazard is a program of a few lines, run once with `multiprocessing.Pool` and once with `amorsize`, in a process of
its own that gets `PATIENCE_SECONDS`; it says "right" if all is well. The table goes to benchmarks/results/hazards.txt.
tests/ has what ours must do, under every start method.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

PATIENCE_SECONDS = 6
ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "hazards.txt"

# `many(function, items)` maps with two workers and chunks of one; `workers()` tells their process numbers.
SETTINGS = {
    "stock": """
        import multiprocessing, os, signal, sys, threading, time
        pool = multiprocessing.get_context({method!r}).Pool(2)
        def many(function, items):
            return pool.map(function, items, chunksize=1)
        def workers():
            return [process.pid for process in pool._pool]
        def leave():
            pool.terminate()
            pool.join()
    """,
    "ours": """
        import multiprocessing, os, signal, sys, threading, time
        import amorsize
        from amorsize.backends.processes.start import all_workers
        def many(function, items):
            options = dict(backend="processes", n_jobs=2, chunksize=1, start_method={method!r})
            return list(amorsize.map(function, items, **options))
        def workers():
            return [worker.process.pid for worker in all_workers()]
        def leave():
            amorsize.shutdown()
    """,
}

HAZARDS = {
    "a worker is killed in mid-task": """
        def die(number):
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return number
        {start}
        try:
            many(die, range(8))
        except Exception as error:
            print("right" if "item 3" in str(error) else error)
    """,
    "a worker is killed while idle, and then there is work": """
        {start}
        many(abs, range(8))
        os.kill(workers()[0], signal.SIGKILL)
        time.sleep(0.3)
        print("right" if many(abs, range(8)) == list(range(8)) else "wrong")
    """,
    "a worker is killed while idle, and then all is to end": """
        {start}
        many(abs, range(8))
        os.kill(workers()[0], signal.SIGKILL)
        time.sleep(0.3)
        leave()
        print("right")
    """,
    "a result cannot be rebuilt": """
        def fail(number):
            raise ValueError(number)
        class Result:
            def __reduce__(self):
                return fail, (1,)
        def work(number):
            return Result() if number == 3 else number
        {start}
        try:
            many(work, range(8))
        except Exception as error:
            print("right" if "item 3" in str(error) else error)
    """,
    "threads are left in the user's process": """
        {start}
        many(abs, range(8))
        print("right" if threading.active_count() == 1 else f"{{threading.active_count() - 1}} threads")
    """,
    "forked workers repeat NumPy's random numbers": """
        import numpy.random
        def draw(number):
            time.sleep(0.05)
            return numpy.random.random()
        {start}
        drawn = many(draw, range(8))
        print("right" if len(set(drawn)) == 8 else f"{{len(set(drawn))}} of 8 distinct")
    """,
    "a function is unpickled again and again": """
        class Function:
            loads = 0
            def __call__(self, number):
                return os.getpid(), Function.loads
            def __getstate__(self):
                return {{"any": 1}}
            def __setstate__(self, state):
                Function.loads += 1
        {start}
        loads = max(number for _, number in many(Function(), range(40)))
        print("right" if loads == 1 else f"{{loads}} times in one worker")
    """,
    "a script without a main guard, under spawn": """
        print("body", file=sys.stderr)
        def square(number):
            return number * number
        {start}
        print("right" if many(square, range(4)) == [0, 1, 4, 9] else "wrong")
    """,
}


def outcome(hazard: str, who: str, folder: str) -> str:
    """Run one program; return "right", or what happened in a few words."""
    method = "spawn" if "spawn" in hazard else "fork"
    start = textwrap.dedent(SETTINGS[who]).format(method=method).strip()
    imports, _, rest = start.partition("\n")
    script = Path(folder) / "script.py"
    script.write_text(imports + "\n" + textwrap.dedent(HAZARDS[hazard]).format(start=rest), encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    ) as child:
        try:
            printed, said = child.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            _, said = child.communicate()
            bodies = said.count("body")
            return "hangs" if bodies < 2 else f"the script runs {bodies} times in {PATIENCE_SECONDS} s, and hangs"
    lines = printed.split("\n")
    if lines[0] == "right" and said.count("body") <= 1:
        return "right"
    return lines[0][:60] or said.strip().split("\n")[-1][:60] or f"exit code {child.returncode}"


def main() -> int:
    """Print the table and keep it."""
    lines = [f"CPython {sys.version.split()[0]}; {PATIENCE_SECONDS} s each", f"{'hazard':<56}{'ours':<10}stock Pool"]
    print(*lines, sep="\n")
    held = True
    with tempfile.TemporaryDirectory() as folder:
        for hazard in HAZARDS:
            ours, stock = outcome(hazard, "ours", folder), outcome(hazard, "stock", folder)
            held = held and ours == "right"
            lines.append(f"{hazard:<56}{ours:<10}{stock}")
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
