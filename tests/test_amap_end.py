"""What is left of an `amap`, however it ends; and `map` of coroutine functions, which has a loop of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings

import pytest
from coroutine_workers import GUARD_SECONDS, collect, double, run

import amorsize


class TestEnd:
    """What is left of a call."""

    def test_leaving_the_block_cancels_what_runs(self):
        """However it is left."""
        running = set()

        async def wait(number):
            running.add(number)
            try:
                await asyncio.sleep(0 if number == 0 else 60)
            finally:
                running.discard(number)
            return number

        async def main():
            async with amorsize.amap(wait, range(100), n_jobs=8) as results:
                async for _ in results:
                    break
            left = len(running)
            with pytest.raises(StopAsyncIteration):
                await results.__anext__()
            return left

        assert run(main()) == 0

    def test_a_dropped_iterator_cancels_its_tasks(self):
        """No task keeps it alive."""

        async def wait(number):
            await asyncio.sleep(0 if number == 0 else 60)
            return number

        async def main():
            async for _ in amorsize.amap(wait, range(100), n_jobs=8):
                break
            gc.collect()
            for _ in range(100):
                if len(asyncio.all_tasks()) <= 2:
                    break
                await asyncio.sleep(0.01)
            return len(asyncio.all_tasks())

        assert run(main()) <= 2

    def test_a_cancelled_wait_loses_nothing(self):
        """The next one gets the result."""

        async def slow(number):
            await asyncio.sleep(0.05)
            return number

        async def main():
            stream = amorsize.amap(slow, range(20), n_jobs=2)
            results = []
            while True:
                try:
                    results.append(await asyncio.wait_for(stream.__anext__(), 0.01))
                except (TimeoutError, asyncio.TimeoutError):
                    continue
                except StopAsyncIteration:
                    return results

        assert run(main()) == list(range(20))

    def test_what_does_not_end_is_named(self):
        """After a second."""
        async def stubborn(number):
            for _ in range(2):
                try:
                    await asyncio.sleep(3)
                except asyncio.CancelledError:
                    continue
            return number

        async def main():
            stream = amorsize.amap(stubborn, range(2), n_jobs=2)
            asking = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.warns(RuntimeWarning, match="items 0, 1 of .* go on"):
                await stream.aclose()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run(main())
    def test_a_plain_item_that_goes_on_is_named(self):
        """It cannot be stopped."""
        release = threading.Event()

        def stuck(number):
            release.wait(GUARD_SECONDS)
            return number

        async def main():
            stream = amorsize.amap(stuck, [0])
            asking = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0.1)
            asking.cancel()
            with pytest.warns(RuntimeWarning, match="still runs in a thread"):
                await stream.aclose()
            release.set()

        asyncio.run(main())
        for thread in threading.enumerate():
            if thread.name.startswith("amorsize"):
                thread.join(GUARD_SECONDS)

    def test_a_plain_function_on_workers_is_closed_soon(self):
        """Although its items take long."""

        async def main():
            stream = amorsize.amap(time.sleep, [0, *[60] * 7], backend="processes", n_jobs=2)
            await stream.__anext__()
            began = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                await stream.aclose()
            return time.monotonic() - began

        assert asyncio.run(main()) < GUARD_SECONDS / 2
        for thread in threading.enumerate():
            if thread.name.startswith("amorsize"):
                thread.join(GUARD_SECONDS)

    def test_a_result_never_asked_for_is_told_for_decorated_functions(self):
        """As a coroutine that is never awaited."""
        stream = amorsize.parallelize(double).map([1])
        with pytest.warns(RuntimeWarning, match="never iterated"):
            del stream


class TestOwnLoop:
    """`map` of a coroutine function."""

    def test_it_has_a_loop_of_its_own(self):
        """Which several items share."""
        began = time.monotonic()

        async def wait(number):
            await asyncio.sleep(0.02)
            return number

        assert list(amorsize.map(wait, range(100))) == list(range(100))
        assert time.monotonic() - began < GUARD_SECONDS

    def test_starmap_too(self):
        """Arguments are spread."""

        async def add(one, other):
            return one + other

        assert list(amorsize.starmap(add, [(1, 2), (3, 4)])) == [3, 7]
        assert list(amorsize.map(add, [1, 2], [10, 20])) == [11, 22]

    def test_serial_is_one_by_one(self):
        """In order, and nothing at once."""
        now, most = 0, 0

        async def count(number):
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return number

        assert list(amorsize.map(count, range(9), backend="serial")) == list(range(9))
        assert most == 1

    def test_inside_a_loop_it_names_amap(self):
        """It would block that loop."""

        async def main():
            with pytest.raises(amorsize.UnsupportedError, match="amap"):
                amorsize.map(double, [1])
            return stream

        stream = amorsize.map(double, [1])
        assert run(main()) is stream

        async def later():
            with pytest.raises(amorsize.UnsupportedError, match="amap"):
                next(stream)

        run(later())

    def test_errors_and_early_ends_close_the_loop(self):
        """Nothing is left of it."""

        async def fail(number):
            await asyncio.sleep(0)
            return 1 // (number - 3)

        with pytest.raises(ZeroDivisionError):
            list(amorsize.map(fail, range(9)))
        with amorsize.map(double, range(1000)) as results:
            assert next(results) == 0
        assert list(results) == []

    def test_a_decorated_coroutine_function_stays_one(self):
        """And its map is asynchronous."""

        @amorsize.parallelize(n_jobs=3)
        async def triple(number, *, more=0):
            return 3 * number + more

        async def main():
            mapped = await collect(triple.map([1, 2], more=1))
            return await triple(5), mapped, await collect(triple.starmap([(1,), (2,)]))

        assert run(main()) == (15, [4, 7], [3, 6])
        with pytest.raises(amorsize.UnsupportedError):
            triple.optimize([1])
        with pytest.raises(TypeError, match="over"):
            amorsize.parallelize(over="number")(double)
