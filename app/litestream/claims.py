"""Which run of which node an address in a bucket belongs to. Pure.

Two processes of Litestream that write to one address destroy each other's copies. So each start claims its address: it
creates the object `claim-<n+1>.json`, only if it is not there. The highest one counts. Whoever starts may follow the
claim that it made itself (its `data_dir` remembers which), or, where nothing is remembered since the disk was lost, one
of a node of its own name. Every other claim is somebody else's. The token is new at each start, so that a copy of a
`data_dir` is told from the original as soon as both have started.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

FORM: Final = 1
CLAIM_MAX_BYTES: Final = 16 * 1024
_KIND: Final = "litecast litestream"
_NAME: Final = re.compile(r"claim-(\d{12})\.json")
_TOKEN: Final = re.compile(r"[0-9a-f]{32}")


class BadClaim(ValueError):
    """An object has a claim's name and is none. The text goes on after its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who has an address: a node of a cluster, since the start that made this token."""

    cluster: str
    node: str
    token: str


def name_of(number: int) -> str:
    """The object's name beside the replica."""
    return f"claim-{number:012d}.json"


def number_of(name: str) -> int | None:
    """The number in an object's name; None if it is no claim's."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[1])


def encode(claim: Claim) -> bytes:
    """The object's content."""
    return (
        json.dumps({_KIND: FORM, "cluster": claim.cluster, "node": claim.node, "token": claim.token}) + "\n"
    ).encode()


def decode(content: bytes) -> Claim:
    """Raises BadClaim."""
    try:
        found = json.loads(content) if len(content) <= CLAIM_MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get(_KIND) != FORM:
        raise BadClaim("is not what this version of Litecast writes there")
    cluster, node, token = found.get("cluster"), found.get("node"), found.get("token")
    if not isinstance(cluster, str) or not isinstance(node, str) or not isinstance(token, str):
        raise BadClaim("names no node")
    return Claim(cluster=cluster, node=node, token=token)


def tokens_in(text: str) -> tuple[str, ...]:
    """The tokens in the file that remembers them, newest first; none if it was never written whole."""
    return tuple(line for line in text.splitlines() if _TOKEN.fullmatch(line))


def why_not(found: Claim | None, *, cluster: str, node: str, remembered: tuple[str, ...]) -> str | None:
    """Why a node may not follow the claim that counts; None if it may. The text goes on after the address."""
    if found is None or found.token in remembered:
        return None
    if (found.cluster, found.node) != (cluster, node):
        return f"is that of node {found.node!r} of cluster {found.cluster!r}"
    if remembered:
        return f"was taken over by another node that is called {node!r} as well"
    return None
