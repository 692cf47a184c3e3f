"""The queue to one peer: bounded, batched, in order, and without a hole in its numbers."""

import pytest

from cluster import outbox
from cluster.address import Address
from cluster.outbox import Outbox
from cluster.wire import (
    BATCH_TARGET_BYTES,
    Batch,
    Call,
    Cast,
    Casts,
    Frame,
    Heartbeat,
    decode,
    encode_message,
    encode_payload,
)


class Slow:
    """A connection that takes `room` frames."""

    def __init__(self, room: int) -> None:
        self.address = Address("127.0.0.1", 1)
        self.room = room
        self.frames: list[Frame] = []

    def send(self, frame: bytes) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.frames.append(decode(frame))
        return True

    def close(self) -> None:
        self.room = 0

    def numbers(self) -> list[object]:
        """What arrived; asserts that the sequence numbers have no hole."""
        found: list[object] = []
        for frame in self.frames:
            if isinstance(frame, Heartbeat):
                assert frame.next_sequence == len(found)
                continue
            assert isinstance(frame, Batch)
            assert frame.first_sequence == len(found)
            for message in frame.messages:
                match message:
                    case Cast(_, payload):
                        found.append(payload)
                    case Casts(_, payloads):
                        found += payloads
                    case Call(call_id):
                        found.append(call_id)
                    case _:
                        raise AssertionError(message)
        return found


def put(queue: Outbox, *payloads: object) -> list[bool]:
    return [queue.put_cast("a", encode_payload(payload)) for payload in payloads]


def test_messages_of_one_turn_leave_in_one_frame() -> None:
    connection = Slow(9)
    queue = Outbox(connection)
    put(queue, 1, 2, 3)
    assert (queue.waiting, connection.frames) == (3, [])
    queue.flush(5.0)
    assert (queue.waiting, len(connection.frames), queue.sent_s) == (0, 1, 5.0)
    assert connection.numbers() == [1, 2, 3]


def test_frame_is_closed_when_it_is_large_enough() -> None:
    connection = Slow(99)
    queue = Outbox(connection)
    load = b"x" * (BATCH_TARGET_BYTES // 4)
    put(queue, *[load] * 9)
    queue.flush(0.0)
    assert [frame.count for frame in connection.frames if isinstance(frame, Batch)] == [4, 4, 1]


def test_casts_to_one_actor_one_after_another_share_an_entry() -> None:
    connection = Slow(9)
    queue = Outbox(connection)
    put(queue, 0, 1)
    queue.put(encode_message(Call(2, "a", "x")))
    put(queue, 3)
    queue.put_cast("b", encode_payload(4))
    put(queue, 5, 6, 7)
    assert queue.waiting == 8
    queue.flush(0.0)
    assert connection.frames == [
        Batch(0, [Casts("a", [0, 1]), Call(2, "a", "x"), Cast("a", 3), Cast("b", 4), Casts("a", [5, 6, 7])])
    ]
    put(queue, 8)
    queue.flush(0.0)
    assert connection.numbers() == list(range(9))


@pytest.mark.parametrize("actor", [7, None, b"a", "\ud800", "x" * 2_000])
def test_name_that_no_actor_can_have_is_refused_and_leaves_the_queue_as_it_was(actor: str) -> None:
    connection = Slow(9)
    queue = Outbox(connection)
    put(queue, 0)
    with pytest.raises((TypeError, ValueError)):
        queue.put_cast(actor, encode_payload(1))
    put(queue, 1)
    queue.flush(0.0)
    assert connection.frames == [Batch(0, [Casts("a", [0, 1])])]


def test_names_of_actors_count_towards_a_frame_and_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "QUEUE_MAX_BYTES", 3 * BATCH_TARGET_BYTES)
    connection = Slow(999)
    queue = Outbox(connection)
    names = ["x" * 1_000, "y" * 1_000]
    taken = 0
    while queue.put_cast(names[taken % 2], encode_payload(taken % 100)):
        taken += 1
    assert taken * 1_000 <= 4 * BATCH_TARGET_BYTES
    queue.flush(0.0)
    assert len(connection.frames) >= 3
    assert len(connection.numbers()) == taken


def test_refused_frame_goes_first_and_keeps_its_place() -> None:
    connection = Slow(1)
    queue = Outbox(connection)
    put(queue, 0)
    queue.flush(0.0)
    put(queue, 1, 2)
    queue.flush(0.0)
    put(queue, 3)
    queue.flush(0.0)
    assert queue.waiting == 3
    queue.heartbeat(0.0)  # would overtake
    connection.room = 9
    queue.flush(1.0)
    queue.heartbeat(1.0)
    assert connection.numbers() == [0, 1, 2, 3]
    assert connection.frames[-1] == Heartbeat(4)
    assert queue.waiting == 0


def test_full_queue_refuses_the_newest_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "QUEUE_MAX_MESSAGES", 3)
    connection = Slow(9)
    queue = Outbox(connection)
    assert put(queue, 0, 1, 2, 3, 4) == [True, True, True, False, False]
    queue.flush(0.0)
    assert put(queue, 3) == [True]
    queue.flush(0.0)
    assert connection.numbers() == [0, 1, 2, 3]


def test_full_queue_refuses_the_newest_by_size_and_has_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "QUEUE_MAX_BYTES", 1_000)
    connection = Slow(0)
    queue = Outbox(connection)
    load = b"x" * 300
    for _ in range(20):
        put(queue, load)
        queue.flush(0.0)
    # What waits: the frame that was refused, and at most the bound behind it.
    assert 3 <= queue.waiting <= 6
    waiting = queue.waiting
    connection.room = 99
    queue.flush(0.0)
    assert len(connection.numbers()) == waiting
    assert put(queue, load, load, load) == [True, True, True]
    assert put(queue, load) == [False]
