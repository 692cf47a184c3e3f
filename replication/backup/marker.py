"""Whose backup a place holds: one small object that is written once, before anything else but a key is. Pure.

`{"litecast backup": 1, "cluster": NAME}`, for people too. A place that has other objects and not this one is used for
something else, and is left alone. Of an encrypted backup it is `{"litecast backup": 2, "cluster": NAME, "key": HEX}`,
which names the key without telling it: see `encrypting`. What a place is it stays."""

import json
import re
from dataclasses import dataclass
from typing import Final

PLAIN: Final = 1
ENCRYPTED: Final = 2
MARKER_MAX_BYTES: Final = 64 * 1024
_KIND: Final = "litecast backup"
_NAME_MAX: Final = 4_096
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{32}")


class BadMarker(ValueError):
    """Whatever stands there, it does not say whose backup this is. The text goes on after the place."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Whose backup it is, and the fingerprint of the key that it is encrypted with; None if it is not."""

    cluster: str
    key: str | None = None


def encode(marker: Marker) -> bytes:
    """The object's bytes."""
    said: dict[str, object] = {_KIND: PLAIN if marker.key is None else ENCRYPTED, "cluster": marker.cluster}
    if marker.key is not None:
        said["key"] = marker.key
    return (json.dumps(said) + "\n").encode()


def decode(content: bytes) -> Marker:
    """What the object says. Raises BadMarker."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise BadMarker("is not what Litecast wrote there") from None
    if not isinstance(found, dict) or type(found.get(_KIND)) is not int:
        raise BadMarker("is not what Litecast wrote there")
    form, cluster, key = found[_KIND], found.get("cluster"), found.get("key")
    if form > ENCRYPTED:
        raise BadMarker(f"has format {form}, and formats up to {ENCRYPTED} are known; upgrade litecast")
    if not isinstance(cluster, str) or not 0 < len(cluster) <= _NAME_MAX:
        raise BadMarker("names no cluster")
    if form != ENCRYPTED:
        return Marker(cluster)
    if not isinstance(key, str) or not _FINGERPRINT.fullmatch(key):
        raise BadMarker("says that the backup is encrypted, and names no key")
    return Marker(cluster, key)
