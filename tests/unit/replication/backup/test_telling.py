"""What nodes tell each other of the bucket, and whom they ask when a word was lost."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from replication.backup import saying
from replication.backup.saying import ASKED, BACKUP, Said
from replication.backup.telling import ASK_AFTER_S, TELL_ALL_S, Uploaded
from replication.engine.received import Malformed
from replication.engine.stamps import Site, Stamp
from replication.simulation.loop import VirtualLoop

A, B = Site("a" * 32), Site("b" * 32)


@dataclass
class Peer:
    name: str


@dataclass
class Wire:
    """What was cast, to whom."""

    name: str = "here"
    cast_: list[tuple[str, object]] = field(default_factory=list[tuple[str, object]])

    def cast(self, node: str, actor: str, message: object) -> None:
        assert actor == BACKUP
        self.cast_.append((node, message))

    def peers(self) -> list[Peer]:
        return [Peer("one"), Peer("two")]

    def taken(self) -> list[tuple[str, object]]:
        found, self.cast_ = self.cast_, []
        return found


@dataclass
class Node:
    """Its site may change, and whether its uploads work."""

    site: Site = A
    works: bool = True
    wire: Wire = field(default_factory=Wire)

    def __post_init__(self) -> None:
        self.uploaded = Uploaded(self.say)
        self.uploaded.start(self.wire)

    def say(self, uploaded: Mapping[Site, Stamp]) -> Said:
        return Said(site=self.site, works=self.works, snapshot=1, uploaded=uploaded)

    def told(self) -> list[tuple[str, Said]]:
        self.uploaded.tell()
        return [(peer, saying.parse(message)) for peer, message in self.wire.taken()]


def run(story: object) -> None:
    with VirtualLoop() as loop:
        loop.run_until_complete(story)  # type: ignore[arg-type]


def test_what_is_new_is_told_at_once_and_all_of_it_again_after_a_while() -> None:
    async def story() -> None:
        node = Node()
        node.uploaded.note({A: Stamp(5), B: Stamp(3)})
        assert [said.uploaded for _, said in node.told()] == 2 * [{A: 5, B: 3}]
        assert node.told() == []
        node.uploaded.note({A: Stamp(6)})
        assert [said.uploaded for _, said in node.told()] == 2 * [{A: 6}]
        await asyncio.sleep(TELL_ALL_S)
        assert node.told() == [], "nothing is new"
        node.uploaded.note({A: Stamp(7)})
        assert [said.uploaded for _, said in node.told()] == 2 * [{A: 7, B: 3}]

    run(story())


def test_all_is_told_when_the_site_is_another_or_uploads_work_no_more() -> None:
    """Or the others go on to believe that somebody uploads what he does not."""

    async def story() -> None:
        node = Node()
        node.uploaded.note({A: Stamp(5)})
        node.told()
        node.site = B
        assert node.told() == [
            (peer, Said(site=B, works=True, snapshot=1, uploaded={A: Stamp(5)})) for peer in ("one", "two")
        ]
        node.works = False
        assert [said.works for _, said in node.told()] == [False, False]
        assert node.told() == []

    run(story())


def test_who_lacks_something_for_long_asks_and_who_is_asked_says_all() -> None:
    async def story() -> None:
        node = Node()
        node.uploaded.ask(lacks=True)
        await asyncio.sleep(ASK_AFTER_S / 2)
        node.uploaded.ask(lacks=True)
        assert node.wire.taken() == []
        await asyncio.sleep(ASK_AFTER_S / 2)
        node.uploaded.ask(lacks=True)
        assert node.wire.taken() == [("one", ASKED), ("two", ASKED)]
        node.uploaded.ask(lacks=True)
        assert node.wire.taken() == [], "it waits for an answer"
        node.uploaded.ask(lacks=False)
        await asyncio.sleep(ASK_AFTER_S)
        node.uploaded.ask(lacks=True)
        assert node.wire.taken() == [], "that is something else"

        node.uploaded.note({A: Stamp(5)})
        node.told()
        node.uploaded.heard("two", ASKED)
        ((peer, message),) = node.wire.taken()
        assert (peer, saying.parse(message).uploaded) == ("two", {A: 5})

    run(story())


@pytest.mark.parametrize("message", [["backup?", 1], "backup?", [], None])
def test_what_is_no_question_is_none(message: object) -> None:
    with pytest.raises(Malformed):
        Node().uploaded.heard("one", message)
