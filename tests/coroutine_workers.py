"""Coroutine functions and their helpers, for the tests of `amap` and of coroutine functions."""

from __future__ import annotations

import asyncio

GUARD_SECONDS = 30


def run(coroutine):
    """Run it on a loop of its own; nothing may be left there."""

    async def main():
        result = await asyncio.wait_for(coroutine, GUARD_SECONDS)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for _ in range(10):
            if not left:
                break
            await asyncio.sleep(0.01)
            left = {task for task in left if not task.done()}
        assert not left
        return result

    return asyncio.run(main())


async def collect(stream):
    return [result async for result in stream]


async def double(number):
    await asyncio.sleep(0.001 * (number % 3))
    return 2 * number


def plain_double(number):
    return 2 * number


async def numbers(count):
    for number in range(count):
        await asyncio.sleep(0)
        yield number
