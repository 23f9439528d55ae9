"""`amap`: values, order, errors and limits."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import contextvars
import threading

import pytest
from coroutine_workers import GUARD_SECONDS, collect, double, numbers, plain_double, run

import amorsize

VARIABLE = contextvars.ContextVar("variable", default="unset")
FUNCTIONS = pytest.mark.parametrize("function", [double, plain_double])


class TestValues:
    """What comes out."""

    @FUNCTIONS
    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize("kind", [list, iter])
    def test_results_come_in_order(self, function, asynchronous, kind):
        """From plain and asynchronous inputs."""
        items = numbers(100) if asynchronous else kind(list(range(100)))

        assert run(collect(amorsize.amap(function, items))) == [2 * number for number in range(100)]

    @FUNCTIONS
    def test_unordered_is_the_same_multiset(self, function):
        """Each once."""
        assert sorted(run(collect(amorsize.amap(function, range(50), ordered=False)))) == [2 * n for n in range(50)]

    @pytest.mark.parametrize("strict", [False, True])
    def test_several_iterables_end_with_the_shortest(self, strict):
        """Plain and asynchronous ones together; unequal lengths are an error where that is asked."""

        async def add(one, other):
            return one + other

        def plain_add(one, other):
            return one + other

        for function in (add, plain_add):
            for inputs in ((range(5), numbers(4)), (numbers(4), range(5)), (range(5), range(4))):
                stream = amorsize.amap(function, *inputs, strict=strict)
                if strict:
                    with pytest.raises(ValueError, match=r"shorter|longer"):
                        run(collect(stream))
                else:
                    assert run(collect(stream)) == [0, 2, 4, 6]

    def test_equal_lengths_are_no_error(self):
        """With `strict`."""

        async def add(one, other):
            return one + other

        assert run(collect(amorsize.amap(add, numbers(3), range(3), strict=True))) == [0, 2, 4]

    def test_readers_may_refill_one_record(self):
        """Each item is what it was when it was read."""

        async def refilled():
            record = [None]
            for number in range(30):
                record[0] = number
                yield record

        async def later(record):
            await asyncio.sleep(0.002)
            return record[0]

        assert run(collect(amorsize.amap(later, refilled()))) == list(range(30))

    def test_what_cannot_be_pickled_is_handed_on_as_it_is(self):
        """As sessions are."""
        lock = threading.Lock()

        async def use(pair):
            await asyncio.sleep(0)
            return pair[0] is lock, pair[1]

        assert run(collect(amorsize.amap(use, ((lock, n) for n in range(9))))) == [(True, n) for n in range(9)]

    def test_bound_methods_partials_and_objects(self):
        """Whatever makes coroutines."""
        from functools import partial

        class Adder:
            async def add(self, one, other=1):
                return one + other

            async def __call__(self, one):
                return one + 10

        async def main():
            adder = Adder()
            return [
                await collect(amorsize.amap(function, range(3)))
                for function in (adder.add, partial(adder.add, other=5), adder)
            ]

        assert run(main()) == [[1, 2, 3], [5, 6, 7], [10, 11, 12]]

    @FUNCTIONS
    def test_nothing_runs_before_the_first_result_is_asked_for(self, function):
        """Not even the input is read."""
        pulled = []

        def items():
            for number in range(5):
                pulled.append(number)
                yield number

        async def main():
            stream = amorsize.amap(function, items())
            await asyncio.sleep(0.01)
            assert pulled == []
            return await collect(stream)

        assert run(main()) == [0, 2, 4, 6, 8]

    @FUNCTIONS
    def test_an_endless_input_is_read_within_bounds(self, function):
        """However slow the user is."""
        pulled = 0

        def endless():
            nonlocal pulled
            while True:
                pulled += 1
                yield pulled

        async def main():
            async with amorsize.amap(function, endless()) as results:
                first = [await results.__anext__() for _ in range(10)]
                await asyncio.sleep(0.2)
            return first

        assert run(main()) == [2 * number for number in range(1, 11)]
        assert pulled < 6_000

    def test_items_run_in_copies_of_the_callers_context(self):
        """On the loop, and in the thread beside it."""

        async def look(number):
            before = VARIABLE.get()
            VARIABLE.set(number)
            await asyncio.sleep(0)
            return before

        def plain_look(number):
            return VARIABLE.get()

        async def main():
            VARIABLE.set("the caller's")
            return {*await collect(amorsize.amap(look, range(9))), *await collect(amorsize.amap(plain_look, range(9)))}

        assert run(main()) == {"the caller's"}


class TestErrors:
    """What goes wrong."""

    def test_the_first_error_in_order_is_raised(self):
        """What lies before it is handed out, what lies behind is cancelled, and others that had happened are told."""
        ended = []

        async def fail(number):
            try:
                if number == 2:
                    await asyncio.sleep(0.05)
                    raise ValueError(number)
                if number == 4:
                    raise KeyError(number)
                if number > 4:
                    await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append(number)
                raise
            return number

        async def main():
            stream = amorsize.amap(fail, range(8), n_jobs=8)
            results = [await stream.__anext__(), await stream.__anext__()]
            with pytest.raises(ValueError, match="2") as caught:
                await stream.__anext__()
            return results, caught.value.amorsize_index, stream.failures

        results, index, failures = run(main())
        assert (results, index) == ([0, 1], 2)
        assert sorted(failure.index for failure in failures) == [2, 4]
        assert sorted(ended) == [5, 6, 7]

    @FUNCTIONS
    def test_errors_may_stand_in_their_places(self, function):
        """With `on_error="return"`."""

        async def fail(number):
            return 1 // number

        def plain_fail(number):
            return 1 // number

        stream = amorsize.amap(fail if function is double else plain_fail, [1, 0, 2], on_error="return")
        first, error, last = run(collect(stream))

        assert (first, type(error), last) == (1, ZeroDivisionError, 0)
        assert [failure.index for failure in stream.failures] == [1]

    def test_retries_try_again(self):
        """As often as was asked."""
        tries = []

        async def sometimes(number):
            tries.append(number)
            if tries.count(number) < 3:
                raise OSError("not yet")
            return number

        assert run(collect(amorsize.amap(sometimes, range(4), retries=2))) == [0, 1, 2, 3]
        assert len(tries) == 12

    def test_an_item_beyond_its_time_is_cancelled(self):
        """And only that one."""
        cancelled = []

        async def slow(number):
            try:
                await asyncio.sleep(60 if number == 1 else 0)
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
            return number

        first, error, last = run(collect(amorsize.amap(slow, range(3), timeout=0.05, on_error="return")))

        assert (first, type(error), last) == (0, amorsize.ItemTimeoutError, 2)
        assert cancelled == [1]

    @pytest.mark.parametrize("function", [double, plain_double])
    def test_errors_of_the_input_come_in_their_place(self, function):
        """After the results of the items before them."""

        async def broken():
            yield 1
            yield 2
            raise OSError("the input broke")

        async def main():
            stream = amorsize.amap(function, broken())
            results = [await stream.__anext__(), await stream.__anext__()]
            with pytest.raises(OSError, match="broke"):
                await stream.__anext__()
            return results

        assert run(main()) == [2, 4]

    def test_an_items_exit_is_its_error(self):
        """It does not end the loop."""

        async def leave(number):
            raise SystemExit(number)

        (error,) = run(collect(amorsize.amap(leave, [3], on_error="return")))
        assert isinstance(error, SystemExit)

    @pytest.mark.parametrize(
        ("options", "match"),
        [({"backend": "processes"}, "event loop"), ({"seed": 1}, "share"), ({"backend": "threads"}, "event loop")],
    )
    def test_what_coroutines_cannot_do_is_refused(self, options, match):
        """At the call."""
        with pytest.raises(amorsize.UnsupportedError, match=match):
            amorsize.amap(double, [1], **options)

    def test_without_a_loop_it_says_so(self):
        """Whoever drives it."""
        stream = amorsize.amap(double, [1])
        awaiting = stream.__anext__()
        with pytest.raises(amorsize.UnsupportedError, match="asyncio"):
            awaiting.send(None)

    def test_it_is_no_plain_iterator(self):
        """The error says what to write."""
        with pytest.raises(TypeError, match="async for"):
            list(amorsize.amap(double, [1]))


def test_a_published_client():
    """A server that answers after some time gets several requests at once, each once, and no more than 32."""
    httpx = pytest.importorskip("httpx")
    now, most, paths = 0, 0, []

    async def answer(reader, writer):
        nonlocal now, most
        now += 1
        most = max(most, now)
        request = await reader.readuntil(b"\r\n\r\n")
        paths.append(request.split()[1].decode())
        await asyncio.sleep(0.005)
        now -= 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with httpx.AsyncClient(timeout=GUARD_SECONDS) as client:

            async def fetch(number):
                return (await client.get(f"http://127.0.0.1:{port}/{number}")).text

            results = await collect(amorsize.amap(fetch, (number for number in range(100))))
        server.close()
        await server.wait_closed()
        return results

    assert run(main()) == ["ok"] * 100
    assert sorted(paths) == sorted(f"/{number}" for number in range(100))
    assert 1 < most <= 32


def test_an_input_that_waits_holds_up_nothing_else():
    """Items that are tried again go on beside it, and results are handed out."""
    tries = []

    async def sometimes(number):
        tries.append(number)
        if len(tries) < 3:
            raise OSError("not yet")
        return number

    async def main():
        release = asyncio.Event()

        async def slow():
            yield 1
            await release.wait()
            yield 2

        stream = amorsize.amap(sometimes, slow(), retries=3)
        first = await stream.__anext__()
        release.set()
        return [first, *await collect(stream)]

    assert run(main()) == [1, 2]
    assert tries == [1, 1, 1, 2]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_list_that_grows_with_its_results_is_read_to_its_end(asynchronous):
    """As a crawler's does; its end is believed only when somebody asks behind its last result."""

    async def visit(number):
        await asyncio.sleep(0)
        return number

    def follow(found, todo):
        if found < 5:
            todo.append(found + 1)

    async def main():
        todo, found = [0], []
        async for number in amorsize.amap(visit, todo):
            await asyncio.sleep(0.01)
            follow(number, todo)
            found.append(number)
        return found

    if asynchronous:
        assert run(main()) == list(range(6))
        return
    todo, found = [0], []
    for number in amorsize.map(visit, todo):
        follow(number, todo)
        found.append(number)
    assert found == list(range(6))


class SloppyError(Exception):
    """Has every attribute, or none."""

    def __getattr__(self, name):
        return {}[name]


def test_errors_that_cannot_be_looked_at_stand_in_their_places():
    """Whatever their class does when it is asked for a status."""

    async def fail(number):
        raise SloppyError

    def plain_fail(number):
        raise SloppyError

    errors = run(collect(amorsize.amap(fail, range(3), on_error="return")))
    assert [type(error) for error in errors] == [SloppyError] * 3
    errors = amorsize.map(plain_fail, range(3), on_error="return", backend="threads")
    assert [type(error) for error in errors] == [SloppyError] * 3


@FUNCTIONS
def test_an_input_that_is_cancelled_is_no_end(function):
    """It raises where a plain loop over it would."""

    async def cancelled():
        yield 1
        raise asyncio.CancelledError

    async def main():
        stream = amorsize.amap(function, cancelled())
        assert await stream.__anext__() == 2
        with pytest.raises((asyncio.CancelledError, concurrent.futures.CancelledError)):
            await stream.__anext__()

    run(main())


def test_an_error_is_not_lost_with_a_cancelled_wait():
    """Whoever asks again gets it."""

    def fail(number):
        raise ValueError(number)

    async def main():
        stream = amorsize.amap(fail, [1])
        while True:
            try:
                await asyncio.wait_for(stream.__anext__(), 0.0001)
            except (TimeoutError, asyncio.TimeoutError):
                continue
            except ValueError:
                return

    run(main())


def test_where_it_stands_for_the_builtin_coroutines_are_left_alone(monkeypatch):
    """`asyncio.gather(*map(fetch, addresses))` wants them as they are."""
    monkeypatch.setattr(builtins, "map", amorsize.map)

    async def main():
        return await asyncio.gather(*map(double, [1, 2]))

    assert run(main()) == [2, 4]
