"""An actor that answers later: what comes after the request is handled meanwhile, and nobody waits for ever."""

import asyncio

import pytest

from cluster import actor
from cluster.actor import Actor
from cluster.errors import Gone, NoSuchActor
from cluster.supervisor import ActorChild
from tests.support.clusters import Harness, Life
from tests.support.eventually import eventually


class Clerk(Actor):
    """Answers a number as soon as a cast says so; an error if the cast is a text."""

    name = "clerk"

    def __init__(self) -> None:
        self.waiting: dict[object, asyncio.Future[object]] = {}

    async def handle_call(self, message: object, sender: str) -> object:
        if message == "poison":
            raise RuntimeError("poison")
        return self.waiting.setdefault(message, asyncio.get_running_loop().create_future())

    async def handle_cast(self, message: object, sender: str) -> None:
        match message:
            case ["answer", number, value]:
                self.waiting[number].set_result(value)
            case ["unsendable", number]:
                self.waiting[number].set_result(object())
            case _:
                self.waiting[message].set_exception(RuntimeError("failed later"))


async def _pair(harness: Harness) -> tuple[Life, Life, list[Clerk]]:
    clerks: list[Clerk] = []

    def make() -> Clerk:
        clerks.append(Clerk())
        return clerks[-1]

    a = await harness.start("a")
    b = await harness.start("b", children=[ActorChild("clerk", make)])
    await harness.settled()
    return a, b, clerks


async def test_what_is_answered_later_does_not_hold_up_what_comes_after_it(harness: Harness) -> None:
    a, b, _ = await _pair(harness)
    first = asyncio.ensure_future(a.node.call("b", "clerk", 1, timeout_s=60))
    second = asyncio.ensure_future(b.node.call("b", "clerk", 2, timeout_s=60))
    await eventually(lambda: _waiting(b) == 0)
    a.node.cast("b", "clerk", ["answer", 2, "second"])
    assert await second == "second"
    assert not first.done()
    a.node.cast("b", "clerk", ["answer", 1, "first"])
    assert await first == "first"


@pytest.mark.parametrize("failure", [["unsendable", 1], 1])
async def test_a_later_answer_that_fails_is_told_and_the_actor_goes_on(harness: Harness, failure: object) -> None:
    a, _, clerks = await _pair(harness)
    call = asyncio.ensure_future(a.node.call("b", "clerk", 1, timeout_s=60))
    await eventually(lambda: 1 in clerks[0].waiting)
    a.node.cast("b", "clerk", failure)
    with pytest.raises(NoSuchActor) as caught:
        await call
    assert caught.value.reason is Gone.CRASHED
    assert len(clerks) == 1


async def test_who_waits_for_a_later_answer_of_an_actor_that_crashed_is_told_at_once(harness: Harness) -> None:
    a, _, clerks = await _pair(harness)
    call = asyncio.ensure_future(a.node.call("b", "clerk", 1, timeout_s=60))
    await eventually(lambda: 1 in clerks[0].waiting)
    with pytest.raises(NoSuchActor):
        await a.node.call("b", "clerk", "poison", timeout_s=60)
    with pytest.raises(NoSuchActor) as caught:
        await call
    assert caught.value.reason is Gone.CRASHED
    assert clerks[0].waiting[1].cancelled()


async def test_an_actor_that_is_stopped_gives_its_later_answers_first(harness: Harness) -> None:
    a, b, clerks = await _pair(harness)
    call = asyncio.ensure_future(a.node.call("b", "clerk", 1, timeout_s=60))
    await eventually(lambda: 1 in clerks[0].waiting)
    asyncio.get_running_loop().call_later(0.2, clerks[0].waiting[1].set_result, "just in time")
    await b.node.processes["clerk"].stop()
    assert await call == "just in time"


async def test_no_more_than_so_many_calls_wait_for_a_later_answer(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "LATER_MAX", 2)
    a, b, clerks = await _pair(harness)
    calls = [asyncio.ensure_future(a.node.call("b", "clerk", number, timeout_s=60)) for number in range(3)]
    await eventually(lambda: len(clerks[0].waiting) == 2 and _waiting(b) == 1)
    clerks[0].waiting[0].set_result("first")
    await eventually(lambda: 2 in clerks[0].waiting)
    for number in (1, 2):
        clerks[0].waiting[number].set_result("later")
    assert await asyncio.gather(*calls) == ["first", "later", "later"]


def _waiting(life: Life) -> int:
    return life.node.processes["clerk"].waiting
