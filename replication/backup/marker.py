"""Whose backup a place holds: one small object that is written once, before anything else is. Pure.

`{"litecast backup": 1, "cluster": NAME}`, for people too. A place that has other objects and not this one is used for
something else, and is left alone."""

import json
from typing import Final

FORM: Final = 1
MARKER_MAX_BYTES: Final = 64 * 1024
_KIND: Final = "litecast backup"
_NAME_MAX: Final = 4_096


class BadMarker(ValueError):
    """Whatever stands there, it does not say whose backup this is. The text goes on after the place."""


def encode(cluster: str) -> bytes:
    """The marker of a cluster's backup."""
    return (json.dumps({_KIND: FORM, "cluster": cluster}) + "\n").encode()


def cluster_of(content: bytes) -> str:
    """Whose backup it is. Raises BadMarker."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise BadMarker("is not what Litecast wrote there") from None
    if not isinstance(found, dict) or type(found.get(_KIND)) is not int:
        raise BadMarker("is not what Litecast wrote there")
    if found[_KIND] > FORM:
        raise BadMarker(f"has format {found[_KIND]}, and formats up to {FORM} are known; upgrade litecast")
    cluster = found.get("cluster")
    if not isinstance(cluster, str) or not 0 < len(cluster) <= _NAME_MAX:
        raise BadMarker("names no cluster")
    return cluster
