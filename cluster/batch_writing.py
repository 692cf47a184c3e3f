"""A BATCH frame as it grows. Casts to one actor, one after another, become one entry that names the actor once.

Bursts are like that: hundreds of rows for the replication actor of each peer. With the name once instead of each time,
the receiver builds a list of payloads and not a list of lists, which is what decoding costs most.
"""

from cluster.wire import encode_batch_parts, encode_casts_head, encode_casts_name


class GrowingBatch:
    """The messages of one frame, in order. `casts` and `size` are its user's to add to, after `begin_casts`."""

    __slots__ = ("_entries", "_messages", "_name", "_parts", "actor", "casts", "size")

    def __init__(self) -> None:
        self.size = 0  # bytes, nearly
        self.actor: str | None = None  # whose casts are being gathered, if the last message was a cast
        self.casts: list[bytes] = []  # their payloads, encoded
        self._name = b""
        self._parts: list[bytes] = []
        self._entries = 0
        self._messages = 0

    def __len__(self) -> int:
        """How many messages there are."""
        return self._messages + len(self.casts)

    def add(self, message: bytes) -> None:
        """Append an encoded message."""
        self._end_casts()
        self._parts.append(message)
        self._entries += 1
        self._messages += 1
        self.size += len(message)

    def begin_casts(self, actor: str) -> None:
        """What is appended to `casts` from now on is for this actor. Raises TypeError or ValueError, and changes
        nothing, if there can be no actor of that name."""
        name = encode_casts_name(actor)
        self._end_casts()
        self.actor, self._name = actor, name
        self.size += len(name)

    def frame(self, first_sequence: int) -> bytes:
        """The frame. Nothing can be added afterwards."""
        self._end_casts()
        return encode_batch_parts(first_sequence, self._entries, self._parts)

    def _end_casts(self) -> None:
        if self.casts:
            self._parts.append(encode_casts_head(self._name, len(self.casts)))
            self._parts += self.casts
            self._entries += 1
            self._messages += len(self.casts)
            self.casts = []
        self.actor = None
