"""What waits to be sent to one peer: bounded, and batched.

Messages that are put within one turn of the event loop leave in one frame. If the connection takes no more frames, they
wait here; beyond `QUEUE_MAX_BYTES` or `QUEUE_MAX_MESSAGES` the newest is refused, and the caller counts it. Nothing is
ever dropped from the middle, so the sequence numbers that the peer sees have no holes of our making.
"""

from collections import deque

from cluster.transport import Connection
from cluster.wire import BATCH_TARGET_BYTES, Heartbeat, encode, encode_batch

QUEUE_MAX_BYTES = 64 * 1024 * 1024
QUEUE_MAX_MESSAGES = 200_000


class Outbox:
    """The messages for one session of one peer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.sent_s = 0.0  # when a frame last left
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._refused: bytes | None = None  # a frame that the connection did not take, and that goes first
        self._refused_messages = 0
        self._sequence = 0

    @property
    def waiting(self) -> int:
        """Messages that have not left yet."""
        return len(self._messages) + self._refused_messages

    def put(self, message: bytes) -> bool:
        """Queue an encoded message. False: the queue is full, it was not taken."""
        size = self._bytes + len(message)
        if size > QUEUE_MAX_BYTES or len(self._messages) >= QUEUE_MAX_MESSAGES:
            return False
        self._bytes = size
        self._messages.append(message)
        return True

    def flush(self, now_s: float) -> None:
        """Send what the connection takes."""
        if self._refused is not None and not self._send_refused(now_s):
            return
        messages = self._messages
        while messages:
            batch: list[bytes] = []
            size = 0
            while messages and size < BATCH_TARGET_BYTES:
                message = messages.popleft()
                size += len(message)
                batch.append(message)
            self._bytes -= size
            frame = encode_batch(self._sequence, batch)
            self._sequence += len(batch)
            self._refused, self._refused_messages = frame, len(batch)
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
