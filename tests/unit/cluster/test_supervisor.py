"""Supervisors: whom a crash restarts, when they give up, and that nothing of theirs outlives them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from cluster.actor import Actor
from cluster.address import Address
from cluster.counters import Count
from cluster.errors import ClusterError, Gone, NoSuchActor, SupervisorGaveUp
from cluster.memory import MemoryNetwork
from cluster.node import Node
from cluster.supervisor import ActorChild, Child, Strategy, Supervisor
from tests.support.eventually import eventually, turns


class Fragile(Actor):
    """Counts its lives in `log`; "poison" kills it, "wait" makes it wait for ever."""

    def __init__(self, name: str, log: list[str], *, dies_at_start: bool = False) -> None:
        self.name = name
        self._log = log
        self._dies_at_start = dies_at_start

    async def started(self) -> None:
        self._log.append(f"+{self.name}")
        if self._dies_at_start:
            raise RuntimeError("cannot start")

    async def stopped(self) -> None:
        self._log.append(f"-{self.name}")

    async def handle_cast(self, message: object, sender: str) -> None:
        if message == "poison":
            raise ValueError("poisoned")
        if message == "wait":
            await asyncio.Event().wait()
        self._log.append(f"{self.name}:{message}")


def fragile(name: str, log: list[str]) -> ActorChild:
    return ActorChild(name, lambda: Fragile(name, log))


@asynccontextmanager
async def running(children: Sequence[Child]) -> AsyncIterator[Node]:
    node = Node(name="n", cluster="c", transport=MemoryNetwork().transport(), children=children)
    async with node:
        yield node


async def crash(node: Node, actor: str, times: int = 1) -> None:
    for _ in range(times):
        before = node.counters.get(Count.CRASHES)
        await eventually(lambda: actor in node.processes)
        node.cast("n", actor, "poison")
        await eventually(lambda before=before: node.counters.get(Count.CRASHES) > before)  # type: ignore[misc]


def has_failed(node: Node) -> ClusterError | None:
    future = node._failed
    return future.result() if future is not None and future.done() else None


async def test_one_for_one_restarts_the_one_that_crashed() -> None:
    log: list[str] = []
    async with running([fragile("x", log), fragile("y", log)]) as node:
        first = node.processes["y"]
        await crash(node, "x")
        await eventually(lambda: log.count("+x") == 2)
        assert log == ["+x", "+y", "+x"]
        assert node.processes["y"] is first
    assert log[3:] == ["-y", "-x"]  # in reverse order of their start


async def test_rest_for_one_restarts_those_after_it_and_lets_them_stop_in_order() -> None:
    log: list[str] = []
    children = [fragile(name, log) for name in "xyz"]
    async with running([Supervisor("rest", children, strategy=Strategy.REST_FOR_ONE)]) as node:
        first = node.processes["x"]
        await crash(node, "y")
        await eventually(lambda: log.count("+z") == 2)
        assert log == ["+x", "+y", "+z", "-z", "+y", "+z"]
        assert node.processes["x"] is first


async def test_fourth_crash_within_five_seconds_ends_the_node() -> None:
    log: list[str] = []
    async with running([fragile("x", log), fragile("y", log)]) as node:
        await crash(node, "x", times=3)
        await eventually(lambda: "x" in node.processes)
        assert has_failed(node) is None
        await crash(node, "x")
        error = await node.failed()
        assert isinstance(error, SupervisorGaveUp)
        assert error.child == "x"
        assert str(error) == "x crashed more than 3 times within 5 s: ValueError: poisoned"
        assert not node.processes  # the others were stopped, too
        assert log[-1] == "-y"


async def test_crashes_far_apart_are_restarted_for_ever() -> None:
    log: list[str] = []
    supervisor = Supervisor("quick", [fragile("x", log)], max_restarts=1, within_s=0.02)
    async with running([supervisor]) as node:
        for _ in range(5):
            await crash(node, "x")
            await asyncio.sleep(0.05)  # time itself is what is tested
        assert has_failed(node) is None


async def test_giving_up_is_a_crash_of_the_child_to_the_supervisor_above() -> None:
    log: list[str] = []
    inner = Supervisor("inner", [fragile("x", log), fragile("y", log)], max_restarts=1)
    async with running([fragile("before", log), inner]) as node:
        await crash(node, "x", times=2)
        await eventually(lambda: log.count("+y") == 2)
        assert log.count("+before") == 1
        assert has_failed(node) is None
        await crash(node, "x", times=6)  # three more rounds of two, and the top gives up as well
        error = await node.failed()
        assert isinstance(error, SupervisorGaveUp)
        assert error.child == "inner"
        assert isinstance(error.cause, SupervisorGaveUp)
        assert not node.processes


@pytest.mark.parametrize("where", ["factory", "started"])
async def test_child_that_cannot_start_makes_its_supervisor_give_up(where: str) -> None:
    log: list[str] = []
    made = 0

    def make() -> Actor:
        nonlocal made
        made += 1
        if where == "factory":
            raise RuntimeError("cannot be made")
        return Fragile("x", log, dies_at_start=True)

    async with running([ActorChild("x", make)]) as node:
        error = await node.failed()
        assert isinstance(error, SupervisorGaveUp)
        assert made == 4
        assert node.counters.get(Count.CRASHES) == 4


async def test_factory_that_fails_only_at_a_restart_is_tried_again() -> None:
    log: list[str] = []
    failures = [False, True, True, False]

    def make() -> Actor:
        if failures.pop(0):
            raise RuntimeError("not now")
        return Fragile("x", log)

    async with running([ActorChild("x", make)]) as node:
        await crash(node, "x")
        await eventually(lambda: log == ["+x", "+x"])
        assert has_failed(node) is None


async def test_two_actors_of_one_name_are_an_error_that_names_it() -> None:
    log: list[str] = []
    async with running([fragile("x", log), fragile("x", log)]) as node:
        assert "an actor named 'x' is running on node 'n' already" in str(await node.failed())


async def test_stop_in_the_middle_of_a_restart_stops_everything() -> None:
    log: list[str] = []
    children = [fragile(name, log) for name in "xyz"]
    async with running([Supervisor("rest", children, strategy=Strategy.REST_FOR_ONE)]) as node:
        node.cast("n", "z", "wait")
        await turns()
        await crash(node, "x")  # z hangs, so that stopping it takes its whole deadline
        await turns()
    assert not node.processes
    assert len(asyncio.all_tasks()) == 1


async def test_messages_in_a_mailbox_are_handled_before_an_orderly_stop() -> None:
    log: list[str] = []
    async with running([fragile("x", log)]) as node:
        for number in range(1_200):  # more than one turn takes
            node.cast("n", "x", number)
    assert log == ["+x", *(f"x:{number}" for number in range(1_200)), "-x"]


async def test_hanging_actor_is_ended_by_force_and_its_mailbox_counted() -> None:
    log: list[str] = []
    async with running([fragile("x", log)]) as node:
        node.cast("n", "x", "wait")
        await turns()
        node.cast("n", "x", "never")
        call = asyncio.ensure_future(node.call("n", "x", "never"))
        await turns()
    with pytest.raises(NoSuchActor) as caught:
        await call
    assert caught.value.reason is Gone.STOPPED
    assert node.counters.get(Count.MAILBOX_LOST) == 2


class Watching(Actor):
    """Asks for news before it runs, and for somebody else as well."""

    name = "watching"

    def __init__(self, node: Callable[[], Node], news: list[object]) -> None:
        self._news = news
        node().monitor_nodes(self.name)
        node().monitor_nodes("nobody")

    async def handle_info(self, info: object) -> None:
        self._news.append(info)


async def test_news_asked_for_before_the_actor_runs_reach_it_and_disturb_nobody() -> None:
    network = MemoryNetwork()
    news: list[object] = []
    nodes: list[Node] = []
    child = ActorChild("watching", lambda: Watching(lambda: nodes[0], news))
    nodes.append(Node(name="a", cluster="c", transport=network.transport(), children=[child]))

    class ToA:
        def describe(self) -> str:
            return "the one node"

        async def run(self, found: Callable[[Sequence[Address]], None]) -> None:
            found([nodes[0].address])

    async with nodes[0], Node(name="b", cluster="c", transport=network.transport(), discovery=ToA()):
        await eventually(lambda: len(news) == 1)
