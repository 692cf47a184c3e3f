"""The simulated object store does what its faults say, and keeps what it has."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from replication.backup import envelope
from replication.backup.errors import BackupUnreachable
from replication.backup.marker import BadMarker, Marker, decode, encode
from replication.simulation.loop import VirtualLoop
from replication.simulation.network import Climate
from replication.simulation.object_store import SPOILS, ObjectStore, SimulatedBucket
from replication.simulation.world import World

type Story = Callable[[ObjectStore, SimulatedBucket], Coroutine[Any, Any, None]]


def run(story: Story) -> None:
    async def begun(loop: VirtualLoop) -> None:
        store = ObjectStore(World(1, loop, Climate()))
        await story(store, SimulatedBucket(store, "A"))

    with VirtualLoop() as loop:
        loop.run_until_complete(begun(loop))


def test_an_object_is_created_once() -> None:
    async def story(store: ObjectStore, bucket: SimulatedBucket) -> None:
        assert await bucket.create("a/1", b"first")
        assert not await bucket.create("a/1", b"second")
        assert await bucket.get("a/1", max_bytes=10) == b"first"
        assert await bucket.get("a/2", max_bytes=10) is None
        assert await bucket.create("b", b"")
        assert await bucket.names("a/") == ["a/1"]

    run(story)


@pytest.mark.parametrize(
    "fault", [{"is_down": True}, {"throttles": 1.0}, {"refuses": {"A"}}], ids=["down", "throttles", "refuses"]
)
def test_who_is_refused_has_done_nothing(fault: dict[str, Any]) -> None:
    async def story(store: ObjectStore, bucket: SimulatedBucket) -> None:
        for name, value in fault.items():
            setattr(store, name, value)
        with pytest.raises(BackupUnreachable):
            await bucket.create("a", b"")
        assert store.objects == {}
        store.mend()
        assert await bucket.create("a", b"")

    run(story)


def test_an_answer_that_is_lost_or_given_twice_is_of_something_that_is_done() -> None:
    async def story(store: ObjectStore, bucket: SimulatedBucket) -> None:
        store.loses_answers = 1.0
        with pytest.raises(BackupUnreachable, match="no answer in time"):
            await bucket.create("a", b"")
        store.mend()
        store.does_twice = 1.0
        assert not await bucket.create("b", b""), "the second one finds what the first one made"
        assert sorted(store.objects) == ["a", "b"]

    run(story)


def test_what_was_asked_for_is_done_though_who_asked_is_dead() -> None:
    async def story(store: ObjectStore, bucket: SimulatedBucket) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        life = loop.begin("A")
        _ = life.create_task(bucket.create("a", b""))
        await asyncio.sleep(0.0)
        life.end()
        await asyncio.sleep(1.0)
        assert "a" in store.objects

    run(story)


def test_what_is_new_is_listed_late_and_can_be_read_at_once() -> None:
    async def story(store: ObjectStore, bucket: SimulatedBucket) -> None:
        store.lists_after_s = 5.0
        await bucket.create("a", b"content")
        assert await bucket.names("") == []
        assert await bucket.get("a", max_bytes=10) == b"content"
        await asyncio.sleep(5.0)
        assert await bucket.names("") == ["a"]

    run(story)


def test_an_answer_that_is_spoiled_leaves_the_object_as_it_is() -> None:
    async def story(store: ObjectStore, bucket: SimulatedBucket) -> None:
        content = envelope.seal(b"content")
        await bucket.create("a", content)
        store.spoils = 1.0
        assert await bucket.get("a", max_bytes=100) != content
        assert store.was_spoiled
        store.mend()
        assert await bucket.get("a", max_bytes=100) == content

    run(story)


@pytest.mark.parametrize("how", sorted(SPOILS.keys() - {"missing"}))
def test_nothing_that_is_spoiled_can_be_read(how: str) -> None:
    spoiled = SPOILS[how](envelope.seal(b"content"), Random(1))
    assert spoiled is not None
    with pytest.raises(envelope.BadEnvelope):
        envelope.unseal(spoiled, max_bytes=100)


def test_a_marker_of_a_newer_version_is_one() -> None:
    newer = SPOILS["newer"](encode(Marker("cluster")), Random(1))
    assert newer is not None
    with pytest.raises(BadMarker, match="upgrade litecast"):
        decode(newer)
