"""How many items should wait at once, and does amorsize find it out? Threads and coroutines against fixed widths.

A real HTTP server on loopback, in a process of its own, replies after 20 ms; a second one serves 16 requests at once
and becomes slower with each further one. Every contender runs in a fresh process, ours with an empty cache first, and
again with what that has left. Widths that are fixed are tried by hand: the best of them is what ours is compared with.

    python benchmarks/waiting.py                 # all rows, written to results/waiting.txt
    python benchmarks/waiting.py --only fetch    # some rows; nothing is written
    python benchmarks/waiting.py --only reads    # short items: reads, writes and waits of 10 to 200 us
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # a checkout need not be installed
REPLY_SECONDS = 0.020
AT_ONCE = 16
WIDTHS = (1, 2, 4, 8, 16, 32)
FETCHES, LIMITED = 400, 2000
# Short items: turns, and calls in one process. What ours may take, as a share of a serial loop: in a process that has
# not used it before, with an empty cache and with what that has left; and in the process's next calls. A first call may
# also take so many turns of a plain loop more.
READ_TURNS, LATER = 9, 6
MOST = {"first": 1.15, "again": 1.15, "later": 1.05}
FIRST_TURNS = 1000
# Threads that were asked for by name are this many times as fast as a serial loop at least, which is one of them.
LEAST_NAMED = 0.9


# The server, which counts how many requests it has at once.


async def serve(*, limited: bool) -> None:
    """Serve until killed; print the port."""
    now = most = total = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most, total
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                if request.startswith(b"GET /most"):
                    body = str(most).encode()
                    most = 0
                else:
                    now += 1
                    most = max(most, now)
                    # Beyond its limit all of its requests take longer, by more than their number.
                    share = max(1.0, now / AT_ONCE) if limited else 1.0
                    await asyncio.sleep(REPLY_SECONDS * share * share)
                    now -= 1
                    body = b"x" * 100
                closing = b"Connection: close" in request
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (
                    len(body), b"Connection: close\r\n" if closing else b"",
                )  # fmt: skip
                writer.write(head + body)
                await writer.drain()
                if closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


class Server:
    """A `with` block with a server."""

    def __init__(self, *, limited: bool = False) -> None:
        self._limited = limited

    def __enter__(self) -> int:
        arguments = [sys.executable, __file__, "--serve", *(["limited"] if self._limited else ["plain"])]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        return int(self._process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


# What is run.

ADDRESS = ""
BYTE_CODE = ""
MEGABYTE = bytes(range(256)) * 4096


def fetch(number: int) -> int:
    """Fetch one page, as most people do."""
    with urllib.request.urlopen(f"{ADDRESS}/{number}") as reply:  # noqa: S310 - our own server
        return len(reply.read()) + number


def nap(number: int) -> int:
    """Wait for 1 ms."""
    time.sleep(0.001)
    return number


def spin(number: int) -> int:
    """Compute for some 5 ms."""
    total = 0
    for i in range(100_000):
        total += i
    return number


def compress(number: int) -> int:
    """Compress a megabyte, which lets other threads run."""
    return len(zlib.compress(MEGABYTE, 1 + number % 2))


def read_row(number: int) -> int:
    """Read one row of a database, opened anew."""
    connection = sqlite3.connect(os.environ["WAITING_DB"])
    try:
        return connection.execute("select value from data where id = ?", (number,)).fetchone()[0]
    finally:
        connection.close()


def read_file(number: int) -> int:
    """Read one small file."""
    return len(Path(os.environ["WAITING_FILES"], str(number)).read_bytes())


def nap_short(number: int) -> int:
    """Wait for 50 us, which take about twice as long."""
    time.sleep(50e-6)
    return number


def ask(number: int) -> int:
    """Ask another process, over a connection of this thread's own, which answers at once."""
    connection = getattr(LOCAL, "connection", None)
    if connection is None:
        connection = LOCAL.connection = socket.create_connection(("127.0.0.1", int(os.environ["WAITING_ECHO"])))
    connection.sendall(b"%8d" % number)
    return int(connection.recv(8))


def write_file(number: int) -> int:
    """Write one small file, and have it on the disk."""
    with open(os.path.join(os.environ["WAITING_FILES"], f"w{number}"), "wb") as file:
        file.write(b"x" * 1000)
        file.flush()
        os.fsync(file.fileno())
    return number


LOCAL = threading.local()
SHORT = {"database": read_row, "files": read_file, "naps of 50 us": nap_short, "a socket": ask, "fsync": write_file}


async def echo() -> None:
    """Send back what comes until killed; print the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64):
            writer.write(data)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def reads_child(task: str, contender: str) -> dict[str, object]:
    """Run short items in this process: once, or in turn with a serial loop several times."""
    import amorsize

    function, items = SHORT[task], range(FETCHES)
    expected = list(map(function, items))  # the system has read all of it now
    times: dict[str, list[float]] = {"serial": [], "ours": []}
    plans = []
    for turn in range(LATER if contender == "later" else 1):
        for name in ("serial", "ours") if contender == "later" else (contender,):
            began = time.perf_counter()
            if name == "serial":
                results = list(map(function, items))
            else:
                stream = amorsize.map(function, items)
                results = list(stream)
                plans.append(stream.plan and f"{stream.plan.backend} {stream.plan.n_jobs}")
            seconds = time.perf_counter() - began
            assert results == expected, task
            if turn or contender != "later":  # the first call of the process is another row
                times[name].append(seconds)
    return {"times": times, "plans": plans}


def child(task: str, contender: str, width: int) -> dict[str, object]:
    """Run one contender in this process; return its seconds, and what else was seen."""
    if task in SHORT:
        return reads_child(task, contender)
    number = LIMITED if task.endswith("limited") else FETCHES
    if task.startswith("coroutines"):
        return asyncio_child(number, contender, width)
    function = {
        "naps": nap, "zlib": compress, "a loop": spin,
    }.get(task, fetch)  # fmt: skip
    number = {"naps": 10_000, "zlib": 200, "a loop": 100}.get(task, number)
    items = range(number)
    expected = list(items)
    if function is not nap:
        expected = [number + 100 for number in items] if function is fetch else list(map(function, items))
    import amorsize

    if contender == "joblib":
        import joblib
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found: dict[str, object] = {}
    if contender == "serial":
        results = list(map(function, items))
    elif contender == "fixed":
        with ThreadPoolExecutor(width) as pool:
            results = list(pool.map(function, items))
    elif contender == "executor":
        with ThreadPoolExecutor() as pool:
            results = list(pool.map(function, items))
    elif contender == "joblib":
        results = joblib.Parallel(n_jobs=width, prefer="threads")(map(joblib.delayed(function), items))
    else:
        stream = amorsize.map(function, items, backend="threads" if contender == "named" else "auto")
        results = list(stream)
        found["plan"] = stream.plan and f"{stream.plan.backend} {stream.plan.n_jobs}"
    found["seconds"] = time.perf_counter() - began
    found["grown_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found["same"] = results == expected
    found["threads"] = threading.active_count()
    return found


def asyncio_child(number: int, contender: str, width: int) -> dict[str, object]:
    """Run coroutines with a real client."""
    import httpx

    import amorsize

    async def main() -> dict[str, object]:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:

            async def fetch_one(item: int) -> int:
                reply = await client.get(f"{ADDRESS}/{item}")
                return len(reply.content) + item

            found: dict[str, object] = {}
            began = time.perf_counter()
            if contender == "serial":
                results = [await fetch_one(item) for item in range(number)]
            elif contender == "fixed":
                gate = asyncio.Semaphore(width)

                async def gated(item: int) -> int:
                    async with gate:
                        return await fetch_one(item)

                results = await asyncio.gather(*map(gated, range(number)))
            else:
                stream = amorsize.amap(fetch_one, range(number))
                results = [result async for result in stream]
                found["plan"] = f"{stream.plan.backend} {stream.plan.n_jobs}"
            found["seconds"] = time.perf_counter() - began
            found["same"] = list(results) == [100 + item for item in range(number)]
            found["tasks"] = len(asyncio.all_tasks()) - 1
            return found

    return asyncio.run(main())


def lag_child() -> dict[str, object]:
    """Return how long the event loop was held up beside a plain function that computes, and how long a close takes."""
    import amorsize

    async def main() -> dict[str, object]:
        worst = {"idle": 0.0, "busy": 0.0}
        where = "idle"

        async def tick() -> None:
            while True:
                began = time.perf_counter()
                await asyncio.sleep(0.005)
                worst[where] = max(worst[where], time.perf_counter() - began - 0.005)

        ticking = asyncio.ensure_future(tick())
        await asyncio.sleep(1)
        where = "busy"
        async for _ in amorsize.amap(spin, range(300)):
            pass
        async for _ in amorsize.amap(spin, range(300)):
            pass
        ticking.cancel()

        async def wait(_: int) -> None:
            await asyncio.sleep(30)

        stream = amorsize.amap(wait, range(1000))
        waiting = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0.2)
        waiting.cancel()
        began = time.perf_counter()
        await stream.aclose()
        closed = time.perf_counter() - began
        left = len(asyncio.all_tasks()) - 1
        return {**worst, "close": closed, "left": left, "threads": threading.active_count()}

    return asyncio.run(main())


# What is compared.


def run(task: str, contender: str, width: int = 0, *, cache: str = "", port: int = 0) -> dict[str, object]:
    """Run one contender in a fresh process."""
    # Byte code is kept whatever the surroundings say, as it is for every installed package.
    environment = {**os.environ, "AMORSIZE_CACHE_DIR": cache, "WAITING_PORT": str(port)}
    environment["PYTHONPYCACHEPREFIX"] = BYTE_CODE
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    arguments = [sys.executable, __file__, "--child", task, contender, str(width)]
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def compare(task: str, port: int, turns: int, say) -> None:
    """Compare ours with fixed widths, and with what else there is."""
    contenders = [("fixed", width) for width in WIDTHS]
    if not task.startswith("coroutines"):
        contenders.append(("executor", 0))
        if can_import("joblib"):
            contenders += [("joblib", 2), ("joblib", 32)]
    if not task.endswith("limited"):
        contenders.insert(0, ("serial", 1))
    seconds: dict[tuple[str, int], list[float]] = {}
    plans, most = [], 0
    for _ in range(turns):
        for contender, width in contenders:
            found = run(task, contender, width, port=port)
            assert found["same"], (task, contender)
            seconds.setdefault((contender, width), []).append(found["seconds"])
        with tempfile.TemporaryDirectory() as cache:
            read_most(port)
            for again in (0, 1):
                found = run(task, "ours", again, cache=cache, port=port)
                assert found["same"], task
                assert found.get("threads", 1) == 1, found
                assert found.get("tasks", 0) == 0, found
                plans.append(found["plan"])
                seconds.setdefault(("ours", again), []).append(found["seconds"])
            most = max(most, read_most(port))
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    best = min(value for (name, _), value in medians.items() if name == "fixed")
    serial = medians.get(("serial", 1), medians["fixed", 1])
    say(f"\n{task}: seconds, medians of {turns}")
    for (name, width), value in medians.items():
        label = ("ours, first", "ours, again")[width] if name == "ours" else f"{name} {width or ''}"
        ratios = f"{serial / value:6.1f} times the serial loop, {best / value:5.2f} of the best width"
        say(f"  {label:<14}{value:8.3f} {ratios}")
    say(f"  ours had {', '.join(map(str, plans))}; at most {most} requests at once")


def read_most(port: int) -> int:
    """Return how many requests the server had at once since this was asked last."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/most") as reply:
        return int(reply.read())


def compare_reads(turns: int, say) -> None:
    """Compare "auto" with a serial loop where items are short: a database, files, and short waits."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.environ["WAITING_DB"] = os.path.join(folder, "data.db")
        with sqlite3.connect(path) as connection:
            connection.execute("create table data (id integer primary key, value integer)")
            connection.executemany("insert into data values (?, ?)", [(i, i * i) for i in range(FETCHES)])
        connection.close()
        os.environ["WAITING_FILES"] = folder
        for number in range(FETCHES):
            Path(folder, str(number)).write_bytes(b"x" * 10_000)
        arguments = [sys.executable, __file__, "--serve", "echo"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
            os.environ["WAITING_ECHO"] = server.stdout.readline().strip()
            say(f"\n{FETCHES} short items, as a share of a serial loop: medians of {turns} fresh processes, in turn")
            for task in SHORT:
                say(reads_row(task, turns))
            server.kill()


def reads_row(task: str, turns: int) -> str:
    """Return what one kind of short items shows."""
    seconds: dict[str, list[float]] = {"serial": [], "first": [], "again": []}
    later: list[float] = []
    plans = set()
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as cache:
            for name, values in seconds.items():
                contender = "serial" if name == "serial" else "ours"
                found = run(task, contender, cache=cache)
                values.extend(found["times"][contender])
                plans |= {f"{name} on {plan}" for plan in found["plans"] if plan}
        with tempfile.TemporaryDirectory() as cache:
            found = run(task, "later", cache=cache)
            medians = [statistics.median(found["times"][name]) for name in ("ours", "serial")]
            later.append(medians[0] / medians[1])
            plans |= {f"later on {plan}" for plan in found["plans"] if plan}
    serial = statistics.median(seconds["serial"])
    shares = {name: statistics.median(seconds[name]) / serial for name in ("first", "again")}
    shares["later"] = statistics.median(later)
    said = []
    for name, share in shares.items():
        most = MOST[name] + (0.0 if name == "later" else FIRST_TURNS * turn_seconds() / serial)
        said.append(f"{name} {share:.2f} ({'held' if share <= most else 'MISSED'}: {most:.2f})")
    moved = f"; {', '.join(sorted(plans))}" if plans else ""
    return f"  {task:<14} serial {serial * 1e3:6.1f} ms, ours {', '.join(said)}{moved}"


def turn_seconds() -> float:
    """Return how long a turn of a plain loop takes."""
    began = time.perf_counter()
    for _ in range(100_000):
        pass
    return (time.perf_counter() - began) / 100_000


def compare_computing(turns: int, say) -> None:
    """Compare threads that were asked for by name with a serial loop, for work that computes."""
    for task in ("zlib", "a loop"):
        shares: dict[str, list[float]] = {"first": [], "again": []}
        plan = ""
        for _ in range(turns):
            with tempfile.TemporaryDirectory() as cache:
                for values in shares.values():
                    serial = run(task, "serial", cache=cache)
                    found = run(task, "named", cache=cache)
                    assert found["same"], task
                    values.append(serial["seconds"] / found["seconds"])
                    plan = found["plan"]
        first, again = (statistics.median(values) for values in shares.values())
        held = "held" if min(first, again) >= LEAST_NAMED else "MISSED"
        say(
            f"threads by name, {task}: {first:.2f} times as fast as a serial loop first, {again:.2f} again "
            f"({held}: {LEAST_NAMED:.2f}); in the end {plan}"
        )


def can_import(name: str) -> bool:
    """Say whether a contender is installed."""
    return importlib.util.find_spec(name) is not None


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--serve")
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.serve == "echo":
        asyncio.run(echo())
        return
    if options.serve:
        asyncio.run(serve(limited=options.serve == "limited"))
        return
    if options.child:
        global ADDRESS
        ADDRESS = f"http://127.0.0.1:{os.environ['WAITING_PORT']}"
        task, contender, width = options.child
        print(json.dumps(lag_child() if task == "lag" else child(task, contender, int(width))))
        return
    with tempfile.TemporaryDirectory() as byte_code:
        global BYTE_CODE
        BYTE_CODE = byte_code
        compare_all(options)


def compare_all(options: argparse.Namespace) -> None:
    """Compare what was asked for."""
    lines: list[str] = []

    def say(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    from machine_facts import facts

    say("Waiting work: threads and coroutines against fixed widths (benchmarks/waiting.py)")
    for line in facts("httpx", "joblib"):
        say(line)
    tasks = ["fetch", "fetch, limited"] + (["coroutines", "coroutines, limited"] if can_import("httpx") else [])
    for task in tasks:
        if options.only in task:
            with Server(limited=task.endswith("limited")) as port:
                compare(task, port, options.turns, say)
    if options.only in "naps":
        with tempfile.TemporaryDirectory() as cache:
            found = run("naps", "ours", cache=cache)
            again = run("naps", "ours", cache=cache)
        say(
            f"\n10,000 waits of 1 ms: {found['seconds']:.2f} s first, {again['seconds']:.2f} again ({again['plan']}); "
            f"memory grew by {found['grown_kb'] / 1024:.1f} MB and {again['grown_kb'] / 1024:.1f} MB"
        )
    if options.only in "reads":
        compare_reads(max(READ_TURNS, options.turns), say)
    if options.only in "computing":
        compare_computing(max(5, options.turns), say)
    if options.only in "lag":
        with tempfile.TemporaryDirectory() as cache:
            found = run("lag", "ours", cache=cache)
        say(
            f"event loop held up: {found['idle'] * 1e3:.1f} ms at most idle, {found['busy'] * 1e3:.1f} ms beside a "
            f"plain function that computes; closing coroutines that wait took {found['close'] * 1e3:.0f} ms and left "
            f"{found['left']} tasks and {found['threads'] - 1} threads"
        )
    if not options.only:
        (HERE / "results" / "waiting.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
