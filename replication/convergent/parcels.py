"""Answers larger than a message: sent as pieces that the asker fetches one by one.

An answer is a parcel: `[total, ref, piece]`. What is longer than a piece stays with the sender for a while, under
`ref`, and the asker fetches `["more", ref, offset]` until it has `total` bytes. So no message is larger than the bus
takes, the asker sets the pace, and other messages pass between two pieces.

The sender keeps a bounded number of bytes for a bounded time; who comes too late asks anew."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgpack

from replication.engine.values import pack

PIECE_BYTES: Final = 1024 * 1024
PARCEL_MAX_BYTES: Final = 320 * 1024 * 1024
"""What an asker takes: the largest changeset, and room."""
KEPT_MAX_BYTES: Final = 512 * 1024 * 1024
KEPT_S: Final = 30.0


class ParcelError(Exception):
    """The peer has no such parcel any more, or what it sent is none. Ask anew."""


class Content(Protocol):
    """What a parcel holds."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    @property
    def held(self) -> int:
        """Bytes of it that are in memory, at most."""
        ...

    async def read(self, at: int, size: int) -> bytes:
        """So many bytes from an offset on. Raises ParcelError if they are there no more."""
        ...


class Whole:
    """Content that is in memory."""

    def __init__(self, content: bytes) -> None:
        self.size = self.held = len(content)
        self._content = content

    async def read(self, at: int, size: int) -> bytes:
        """See `Content`."""
        return self._content[at : at + size]


class Parcels:
    """The sender's side. `now_s` is any clock that only goes forward."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._kept: dict[int, tuple[float, Content]] = {}
        self._last_ref = 0

    async def first(self, content: bytes | Content) -> list[object]:
        """The answer to a request whose result is `content`."""
        whole = Whole(content) if isinstance(content, bytes) else content
        self._forget_old(whole.held)
        if whole.size <= PIECE_BYTES:
            return [whole.size, 0, await whole.read(0, whole.size)]
        self._last_ref += 1
        ref = self._last_ref
        self._kept[ref] = (self._now_s() + KEPT_S, whole)
        return [whole.size, ref, await whole.read(0, PIECE_BYTES)]

    async def more(self, ref: object, offset: object) -> list[object]:
        """A later piece. Raises ParcelError."""
        kept = self._kept.get(ref) if isinstance(ref, int) else None
        if kept is None or not isinstance(ref, int) or not isinstance(offset, int) or not 0 <= offset < kept[1].size:
            raise ParcelError("no such parcel; ask anew")
        _, content = kept
        self._kept[ref] = (self._now_s() + KEPT_S, content)
        piece = await content.read(offset, PIECE_BYTES)
        if offset + len(piece) >= content.size:
            self._kept.pop(ref, None)
        return [content.size, ref, piece]

    def _forget_old(self, coming: int) -> None:
        now_s = self._now_s()
        for ref, (until_s, _) in list(self._kept.items()):
            if until_s < now_s:
                del self._kept[ref]
        while self._kept and coming + sum(content.held for _, content in self._kept.values()) > KEPT_MAX_BYTES:
            del self._kept[next(iter(self._kept))]


class Incoming:
    """The asker's side: takes answers until the content is whole."""

    def __init__(self) -> None:
        self._content = bytearray()
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
        self._content += piece
        self._have += len(piece)
        return bytes(self._content) if self._have == total else None


def flat(*items: bool | bytes | None) -> bytes:
    """Some plain items as the content of a parcel."""
    return pack(items)


def before_last(*items: bool, last: int) -> bytes:
    """What `flat` gives for these items and a last one, bytes of this length, up to where these begin."""
    sized = b"\xc6" + last.to_bytes(4, "big")  # msgpack's "bin 32"
    return bytes([0x90 | len(items) + 1]) + b"".join(map(pack, items)) + sized


def unflat(content: bytes) -> Sequence[bool | bytes | None]:
    """What `flat` was given. Raises ParcelError; whatever the bytes are, no more is made of them than they are long."""
    return _unflat_last(content) or _unflat(content)


def _unflat_last(content: bytes) -> Sequence[bool | bytes | None]:
    """The same for two items and long bytes, which are not copied more than once; nothing if it is something else."""
    if len(content) <= PIECE_BYTES or content[:1] != b"\x93" or content[3:4] != b"\xc6":
        return ()
    flags = [_FLAGS.get(content[1]), _FLAGS.get(content[2])]
    if None in flags or len(content) != 8 + int.from_bytes(content[4:8], "big"):
        return ()
    return [*flags, content[8:]]


_FLAGS: Final = {0xC2: False, 0xC3: True}


def _unflat(content: bytes) -> Sequence[bool | bytes | None]:
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
