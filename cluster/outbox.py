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
        self._room_messages = QUEUE_MAX_MESSAGES
        self._room_bytes = QUEUE_MAX_BYTES
        self._refused: bytes | None = None  # a frame that the connection did not take, and that goes first
        self._refused_messages = 0
        self._sequence = 0

    @property
    def waiting(self) -> int:
        """Messages that have not left yet."""
        return len(self._growing) + sum(map(len, self._full)) + self._refused_messages

    def put(self, message: bytes) -> bool:
        """Queue an encoded message. False: the queue is full, it was not taken."""
        size = len(message)
        if self._room_messages <= 0 or self._room_bytes < size:
            return False
        self._room_messages -= 1
        self._room_bytes -= size
        self._unless_full().add(message)
        return True

    def put_cast(self, actor: str, payload: bytes) -> bool:
        """Queue a cast of an encoded payload. False as above. Raises TypeError or ValueError if there can be no actor
        of that name."""
        size = len(payload)
        if self._room_messages <= 0 or self._room_bytes < size:
            return False
        batch = self._growing
        if batch.actor != actor or batch.size >= BATCH_TARGET_BYTES:
            batch = self._for_casts_to(actor)
        self._room_messages -= 1
        self._room_bytes -= size
        batch.casts.append(payload)
        batch.size += size
        return True

    def _for_casts_to(self, actor: str) -> GrowingBatch:
        batch = self._unless_full()
        size = batch.size
        batch.begin_casts(actor)
        self._room_bytes -= batch.size - size
        return batch

    def _unless_full(self) -> GrowingBatch:
        if self._growing.size >= BATCH_TARGET_BYTES:
            self._full.append(self._growing)
            self._growing = GrowingBatch()
        return self._growing

    def flush(self, now_s: float) -> None:
        """Send what the connection takes."""
        if self._refused is not None and not self._send_refused(now_s):
            return
        if len(self._growing):
            self._full.append(self._growing)
            self._growing = GrowingBatch()
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
