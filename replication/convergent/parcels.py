"""Answers larger than a message: sent as pieces that the asker fetches one by one.

An answer is a parcel: `[total, ref, piece]`. What is longer than a piece stays with the sender for a while, under
`ref`, and the asker fetches `["more", ref, offset]` until it has `total` bytes. So no message is larger than the bus
takes, the asker sets the pace, and other messages pass between two pieces.

The sender keeps a bounded number of bytes for a bounded time; who comes too late asks anew."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from replication.engine.values import pack

PIECE_BYTES: Final = 1024 * 1024
PARCEL_MAX_BYTES: Final = 320 * 1024 * 1024
"""What an asker takes: the largest changeset, and room."""
KEPT_MAX_BYTES: Final = 512 * 1024 * 1024
KEPT_S: Final = 30.0


class ParcelError(Exception):
    """The peer has no such parcel any more, or what it sent is none. Ask anew."""


class Parcels:
    """The sender's side. `now_s` is any clock that only goes forward."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._kept: dict[int, tuple[float, bytes]] = {}
        self._last_ref = 0

    def first(self, content: bytes) -> list[object]:
        """The answer to a request whose result is `content`."""
        self._forget_old(len(content))
        if len(content) <= PIECE_BYTES:
            return [len(content), 0, content]
        self._last_ref += 1
        self._kept[self._last_ref] = (self._now_s() + KEPT_S, content)
        return [len(content), self._last_ref, content[:PIECE_BYTES]]

    def more(self, ref: object, offset: object) -> list[object]:
        """A later piece. Raises ParcelError."""
        kept = self._kept.get(ref) if isinstance(ref, int) else None
        if kept is None or not isinstance(ref, int) or not isinstance(offset, int) or not 0 <= offset < len(kept[1]):
            raise ParcelError("no such parcel; ask anew")
        content = kept[1]
        piece = content[offset : offset + PIECE_BYTES]
        if offset + len(piece) >= len(content):
            del self._kept[ref]
        else:
            self._kept[ref] = (self._now_s() + KEPT_S, content)
        return [len(content), ref, piece]

    def _forget_old(self, coming: int) -> None:
        now_s = self._now_s()
        for ref, (until_s, _) in list(self._kept.items()):
            if until_s < now_s:
                del self._kept[ref]
        while self._kept and coming + sum(len(content) for _, content in self._kept.values()) > KEPT_MAX_BYTES:
            del self._kept[next(iter(self._kept))]


class Incoming:
    """The asker's side: takes answers until the content is whole."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._total = math.inf
        self._have = 0
        self.ref = 0

    @property
    def have(self) -> int:
        """Bytes so far: the offset of the next piece."""
        return self._have

    def take(self, answer: object) -> bytes | None:
        """The content once it is whole, else None. Raises ParcelError."""
        match answer:
            case [int(total), int(ref), bytes(piece)] if 0 <= total <= PARCEL_MAX_BYTES and len(piece) <= PIECE_BYTES:
                pass
            case _:
                raise ParcelError("not a piece of a parcel")
        if self._have and (total != self._total or ref != self.ref):
            raise ParcelError("a piece of another parcel")
        if (not piece and total) or self._have + len(piece) > total:
            raise ParcelError("a piece that does not fit")
        self._total, self.ref = total, ref
        self._pieces.append(piece)
        self._have += len(piece)
        return b"".join(self._pieces) if self._have == total else None


def flat(*items: bool | bytes | None) -> bytes:
    """Some plain items as the content of a parcel."""
    return pack(items)


def unflat(content: bytes) -> Sequence[bool | bytes | None]:
    """What `flat` was given. Raises ParcelError; whatever the bytes are, no more is made of them than they are long."""
    unpacker = msgpack.Unpacker(
        max_buffer_size=PARCEL_MAX_BYTES, max_array_len=0, max_map_len=0, max_ext_len=0, max_str_len=0
    )
    try:
        unpacker.feed(content)
        items = [unpacker.unpack() for _ in range(unpacker.read_array_header())]
    except Exception as error:  # msgpack's own, ValueError, RecursionError: whatever it is, the bytes are at fault
        raise ParcelError(f"not the content of a parcel ({type(error).__name__})") from error
    if not all(item is None or isinstance(item, bool | bytes) for item in items):
        raise ParcelError("not the content of a parcel")
    return items


def is_more(request: list[Any]) -> bool:
    """True if a request is for a later piece."""
    return len(request) == 3 and request[0] == "more"
