"""The queue to one peer: bounded, batched, in order, and without a hole in its numbers."""

import pytest

from cluster import outbox
from cluster.address import Address
from cluster.outbox import Outbox
from cluster.wire import BATCH_TARGET_BYTES, Batch, Cast, Frame, Heartbeat, decode, encode_cast


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
            found += [message.payload for message in frame.messages if isinstance(message, Cast)]
        return found


def put(queue: Outbox, *payloads: object) -> list[bool]:
    return [queue.put(encode_cast("a", payload)) for payload in payloads]


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
    assert [len(frame.messages) for frame in connection.frames if isinstance(frame, Batch)] == [4, 4, 1]


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
    assert queue._bytes < 1_000
