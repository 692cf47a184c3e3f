"""What waits to be sent to one peer: bounded, and batched.

Messages that are put within one turn of the event loop leave in one frame. If the connection takes no more frames, they
wait here; beyond `QUEUE_MAX_BYTES` or `QUEUE_MAX_MESSAGES` the newest is refused, and the caller counts it. Nothing is
ever dropped from the middle, so the sequence numbers that the peer sees have no holes of our making.
"""

from collections import deque

from cluster.batch_writing import GrowingBatch
from cluster.transport import Connection
from cluster.wire import BATCH_TARGET_BYTES, Heartbeat, encode

QUEUE_MAX_BYTES = 64 * 1024 * 1024
QUEUE_MAX_MESSAGES = 200_000


class Outbox:
    """The messages for one session of one peer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.sent_s = 0.0  # when a frame last left
        self._growing = GrowingBatch()
        self._full: deque[GrowingBatch] = deque()
        self._room_messages = QUEUE_MAX_MESSAGES  # for the growing batch
        self._room_bytes = QUEUE_MAX_BYTES
        self._casts_max = 0  # until when one more to the same actor needs no thought
        self._casts_max_bytes = 0
        self._refused: bytes | None = None  # a frame that the connection did not take, and that goes first
        self._refused_messages = 0
        self._sequence = 0

    @property
    def waiting(self) -> int:
        """Messages that have not left yet."""
        return len(self._growing) + sum(map(len, self._full)) + self._refused_messages

    def put(self, message: bytes) -> bool:
        """Queue an encoded message. False: the queue is full, it was not taken."""
        if not self._has_room(len(message)):
            return False
        self._unless_full().add(message)
        return True

    def put_cast(self, actor: str, payload: bytes) -> bool:
        """Queue a cast of an encoded payload. False as above. Raises TypeError or ValueError if there can be no actor
        of that name."""
        batch = self._growing
        size = batch.size + len(payload)
        if actor != batch.actor or size > self._casts_max_bytes or len(batch.casts) >= self._casts_max:
            return self._put_cast_with_care(actor, payload)
        batch.casts.append(payload)
        batch.size = size
        return True

    def _put_cast_with_care(self, actor: str, payload: bytes) -> bool:
        if not self._has_room(len(payload)):
            return False
        batch = self._unless_full()
        if actor != batch.actor:
            batch.begin_casts(actor)
        batch.casts.append(payload)
        batch.size += len(payload)
        # How far it can grow without another look.
        self._casts_max_bytes = min(BATCH_TARGET_BYTES, self._room_bytes)
        self._casts_max = self._room_messages - len(batch) + len(batch.casts)
        return True

    def _has_room(self, size: int) -> bool:
        batch = self._growing
        return len(batch) < self._room_messages and batch.size + size <= self._room_bytes

    def _unless_full(self) -> GrowingBatch:
        if self._growing.size >= BATCH_TARGET_BYTES:
            self._close_batch()
        return self._growing

    def _close_batch(self) -> None:
        batch, self._growing = self._growing, GrowingBatch()
        self._full.append(batch)
        self._room_messages -= len(batch)
        self._room_bytes -= batch.size

    def flush(self, now_s: float) -> None:
        """Send what the connection takes."""
        if self._refused is not None and not self._send_refused(now_s):
            return
        if len(self._growing):
            self._close_batch()
        while self._full:
            batch = self._full.popleft()
            count = len(batch)
            self._room_messages += count
            self._room_bytes += batch.size
            self._refused, self._refused_messages = batch.frame(self._sequence), count
            self._sequence += count
            if not self._send_refused(now_s):
                return

    def _send_refused(self, now_s: float) -> bool:
        assert self._refused is not None
        if not self.connection.send(self._refused):
            return False
        self._refused, self._refused_messages = None, 0
        self.sent_s = now_s
        return True

    def heartbeat(self, now_s: float) -> None:
        """Send a sign of life, unless frames are waiting (they are one)."""
        if self._refused is None and self.connection.send(encode(Heartbeat(self._sequence))):
            self.sent_s = now_s
