"""A handover waits for what was begun, and for nothing that comes after."""

import asyncio

from replication.primary.under_way import UnderWay


async def test_those_of_now_are_waited_for_and_no_later_ones() -> None:
    under_way = UnderWay()
    await under_way.those_of_now(timeout_s=60)
    first, second = under_way.one(), under_way.one()
    first.__enter__()
    waiting = asyncio.create_task(under_way.those_of_now(timeout_s=60))
    await asyncio.sleep(0)
    second.__enter__()
    assert not waiting.done()
    first.__exit__(None, None, None)
    await waiting
    second.__exit__(None, None, None)


async def test_who_does_not_end_is_waited_for_no_longer_than_that() -> None:
    under_way = UnderWay()
    with under_way.one():
        await under_way.those_of_now(timeout_s=0.01)
