"""How each object but marker and keys is wrapped: compressed, and with a checksum. Pure.

    offset  size
         0     4   "LCBK"
         4     1   format of the envelope: 1
         5     1   how the rest is packed: 1 is zlib. 2 is encrypted, and goes on in another way: see `encrypting`
         6    16   BLAKE2b of what follows, keyed with the six bytes before
        22     -   the content, packed

The checksum tells a truncated or altered object from a sound one before anything is made of it. The byte for the
packing leaves room for another compression. What is encrypted is an object that was wrapped like this before."""

import hashlib
import zlib
from typing import Final

MAGIC: Final = b"LCBK"
FORMAT: Final = 1
ZLIB: Final = 1
ENCRYPTED: Final = 2
_LEVEL: Final = 1
"""Of zlib's levels the fastest: changesets and databases shrink to a third, and a core packs 100 MB a second."""
_CHECKSUM_BYTES: Final = 16
HEADER_BYTES: Final = len(MAGIC) + 2 + _CHECKSUM_BYTES


class BadEnvelope(ValueError):
    """The bytes are no object of a backup, or not as they were written."""


def seal(content: bytes) -> bytes:
    """The object's bytes. Equal contents need not give equal bytes with another version of zlib."""
    packed = zlib.compress(content, _LEVEL)
    head = MAGIC + bytes([FORMAT, ZLIB])
    return head + _checksum(head, packed) + packed


def unseal(sealed: bytes, *, max_bytes: int) -> bytes:
    """The content. Raises BadEnvelope, and never makes more than `max_bytes` of it."""
    head, checksum, packed = sealed[:6], sealed[6:HEADER_BYTES], memoryview(sealed)[HEADER_BYTES:]
    if not sealed:
        raise BadEnvelope("is empty")
    if head[:4] != MAGIC[: len(head)] or len(head) < 5:
        raise BadEnvelope("is no object of a backup")
    if head[4] > FORMAT:
        raise BadEnvelope(f"has format {head[4]}, and formats up to {FORMAT} are known; upgrade litecast")
    if head[5:] == bytes([ENCRYPTED]):
        raise BadEnvelope("is encrypted")
    if len(sealed) < HEADER_BYTES or _checksum(head, packed) != checksum:
        raise BadEnvelope("is truncated or altered: its checksum is another")
    if head[5] != ZLIB:
        raise BadEnvelope("is packed in a way that is not known; upgrade litecast")
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(packed, max_bytes)
    except zlib.error as error:
        raise BadEnvelope(f"cannot be unpacked ({error})") from error
    if not unpacking.eof or unpacking.unused_data:
        raise BadEnvelope(f"is larger than {max_bytes} bytes, or goes on after its end")
    return content


def _checksum(head: bytes, packed: bytes | memoryview) -> bytes:
    return hashlib.blake2b(packed, digest_size=_CHECKSUM_BYTES, key=head).digest()
