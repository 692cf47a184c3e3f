"""Where the programs of other nodes are: asked of nodes, checked, and asked again."""

import logging
from dataclasses import dataclass, field
from typing import cast

import pytest

from app.beside import doors as module
from app.beside.doors import DOORS, QUESTION, DoorKeeper, Doors
from cluster.address import Address
from cluster.errors import NodeDown
from cluster.membership import Peer
from cluster.node import Node


@dataclass
class FakeNode:
    """A node with one peer, and what that answers; None: nothing."""

    answer: object = None
    incarnation: str = "1"
    asked: list[tuple[str, str, object]] = field(default_factory=list[tuple[str, str, object]])

    def peers(self) -> tuple[Peer, ...]:
        return (Peer(name="beta", region="syd", address="tcp://10.0.0.2:7400", incarnation=self.incarnation),)

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object:
        self.asked.append((node, actor, message))
        if self.answer is None:
            raise NodeDown(node, actor)
        return self.answer


def doors_of(node: FakeNode) -> Doors:
    return Doors(cast("Node", node))


@pytest.mark.parametrize(
    ("program", "url"),
    [
        (Address("10.0.0.2", 8000), "http://10.0.0.2:8000"),
        (Address("fdaa::3", 8080), "http://[fdaa::3]:8080"),
        (None, None),
    ],
)
async def test_a_node_says_where_its_program_is_and_the_others_believe_it(program: Address | None, url: str) -> None:
    answer = await DoorKeeper(program).handle_call(QUESTION, "alpha")
    node = FakeNode(answer=answer)
    doors = doors_of(node)
    await doors.ask()
    await doors.ask()
    assert doors.url_of("1") == url
    assert node.asked == [("beta", DOORS, QUESTION)]  # once


async def test_a_node_answers_no_other_question() -> None:
    assert await DoorKeeper(None).handle_call("anything", "alpha") == ["error", "not a question"]


@pytest.mark.parametrize(
    "answer",
    [
        ["at", "http://evil/x"],
        ["at", "user@host:80"],
        ["at", "0.0.0.0:80"],
        ["at", "*:80"],
        ["at", "host:0"],
        ["at", "host"],
        ["at", "a" * 400 + ":80"],
        ["at", 7],
        ["at"],
        {"at": 1},
        b"",
    ],
)
async def test_what_is_no_address_is_not_believed_and_logged(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    doors = doors_of(FakeNode(answer=answer))
    with caplog.at_level(logging.WARNING):
        await doors.ask()
    assert doors.url_of("1") is None
    assert "beta says of its program what cannot be used" in caplog.text


async def test_who_does_not_answer_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode()
    doors = doors_of(node)
    await doors.ask()
    await doors.ask()
    assert len(node.asked) == 1
    monkeypatch.setattr(module, "ASK_AGAIN_S", 0.0)
    node.incarnation, node.answer = "2", None
    await doors.ask()
    node.answer = ["at", "host:80"]
    await doors.ask()
    assert doors.url_of("2") == "http://host:80"


async def test_a_node_that_came_back_is_asked_where_its_program_is_now() -> None:
    node = FakeNode(answer=["at", "host:80"])
    doors = doors_of(node)
    await doors.ask()
    node.incarnation, node.answer = "2", ["at", "host:81"]
    await doors.ask()
    assert (doors.url_of("1"), doors.url_of("2")) == (None, "http://host:81")
