"""Which future an answer finds."""

import asyncio
import gc

import pytest

from cluster.calls import PendingCalls
from cluster.errors import CallTimeout, Gone, NodeDown, NoSuchActor


async def test_answer_reaches_the_call_that_it_answers_and_only_once() -> None:
    calls = PendingCalls()
    first, future = calls.open("b", "x")
    second, other = calls.open("b", "x")
    assert first != second
    assert calls.answered("b", second, "two")
    assert await other == "two"
    assert not calls.answered("b", second, "again")
    assert not future.done()
    assert calls.failed("b", first, Gone.CRASHED)
    with pytest.raises(NoSuchActor):
        await future
    assert not calls._pending


async def test_answer_of_a_node_that_was_not_asked_is_nobodys() -> None:
    calls = PendingCalls()
    call_id, future = calls.open("b", "x")
    assert not calls.answered("c", call_id, "forged")
    assert not calls.failed("c", call_id, Gone.CRASHED)
    assert not future.done()
    calls.close(call_id)


async def test_answer_after_the_call_was_closed_is_late() -> None:
    calls = PendingCalls()
    call_id, _ = calls.open("b", "x")
    calls.close(call_id)
    assert not calls.answered("b", call_id, 1)
    assert calls.open("b", "x")[0] != call_id


async def test_deadline_ends_a_call_that_nobody_answered_and_no_other() -> None:
    calls = PendingCalls()
    late, waiting = calls.open("b", "x")
    answered, other = calls.open("b", "y")
    assert calls.answered("b", answered, 1)
    for call_id in (late, answered, 99):
        calls.timed_out(call_id, 0.5)
    with pytest.raises(CallTimeout) as caught:
        await waiting
    assert (caught.value.node, caught.value.actor, caught.value.timeout_s) == ("b", "x", 0.5)
    assert await other == 1
    assert not calls.answered("b", late, 2)
    calls.close(late)
    assert len(calls) == 0


async def test_node_that_went_down_ends_its_calls_and_no_others() -> None:
    calls = PendingCalls()
    _, down = calls.open("b", "x")
    call_id, up = calls.open("c", "x")
    calls.node_down("b")
    with pytest.raises(NodeDown):
        await down
    assert calls.answered("c", call_id, 1)
    assert await up == 1


async def test_error_that_meets_a_cancelled_waiter_is_not_reported_as_forgotten() -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    calls = PendingCalls()

    async def wait() -> object:
        return await calls.open("b", "x")[1]

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    calls.node_down("b")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    del waiting
    gc.collect()  # a forgotten error is reported when its future goes
    await asyncio.sleep(0)
    assert reports == []
