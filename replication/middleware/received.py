"""What a request says to the middleware, and how nodes and clients say it: headers and a cookie.

`litecast-position` is both: how far a node has to be for this client. `litecast-forwarded` goes from node to node,
signed, with what the first one knew of the client: its address, and whether it came by https. A client's own has no
signature, and is worth nothing."""

import hmac
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from replication.epoch_position import EpochPosition
from replication.middleware import token
from replication.middleware.node_file import NodeSays

POSITION: Final = "litecast-position"
FORWARDED: Final = "litecast-forwarded"
NOT_PRIMARY: Final = "litecast-not-primary"
REPLAY: Final = "fly-replay"
REPLAYED: Final = ("fly-replay-src", "fly-replay-failed")
PREFER_REGION: Final = "fly-prefer-region"
COOKIE_MAX_AGE_S: Final = 3600
"""Long after this, every node that is there has the position."""

_COOKIE: Final = POSITION + "="
_REGION: Final = "region"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What both faces find in a request. Texts are empty where the request has no such thing. `target` is as in the
    request line, `client` an address, `body_bytes` None if the request does not say how long its body is."""

    method: str
    path: str
    target: str
    query: str
    scheme: str
    client: str
    position: str
    cookie: str
    prefer_region: str
    forwarded: str
    was_replayed: bool
    body_bytes: int | None

    @property
    def tokens(self) -> list[str]:
        """The position tokens that came along, of the header and of the cookie."""
        found = [self.position] if self.position else []
        if _COOKIE in self.cookie:
            pairs = (part.strip() for part in self.cookie.split(";"))
            found += [pair.removeprefix(_COOKIE) for pair in pairs if pair.startswith(_COOKIE)]
        return found

    @property
    def region(self) -> str | None:
        """Where the client wants its answer from: `?region=`, else the header of Fly's."""
        if f"{_REGION}=" in self.query:
            asked = parse_qs(self.query).get(_REGION)
            if asked:
                return asked[0]
        return self.prefer_region or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """What another node says of a request that it forwarded."""

    node: str
    client: str
    scheme: str


def newest_position(tokens: list[str], key: bytes) -> EpochPosition | None:
    """The latest of the positions that are this cluster's; others are no positions, and ask for nothing."""
    found: list[EpochPosition] = []
    for text in tokens:
        try:
            found.append(token.parse(text, key))
        except token.TokenError:
            continue
    return max(found, default=None)


def cookie_for(text: str, *, is_https: bool) -> str:
    """The value of `Set-Cookie` that gives a client a position token."""
    secure = "; Secure" if is_https else ""
    return f"{_COOKIE}{text}; Max-Age={COOKIE_MAX_AGE_S}; Path=/; HttpOnly; SameSite=Lax{secure}"


def forwarded_header(received: Received, says: NodeSays) -> str:
    """The value of `litecast-forwarded` for a request that this node forwards."""
    fields = (says.node, received.client, received.scheme)
    return ";".join((*fields, _mac(fields, received, says.key)))


def read_forwarded(received: Received, says: NodeSays) -> Forwarded | None:
    """What `forwarded_header` was made from; None if the request came from no node of this cluster."""
    *fields, mac = received.forwarded.split(";")
    if len(fields) != 3 or not hmac.compare_digest(mac.encode(), _mac(tuple(fields), received, says.key).encode()):
        return None
    node, client, scheme = fields
    return Forwarded(node=node, client=client, scheme=scheme)


def _mac(fields: tuple[str, ...], received: Received, key: bytes) -> str:
    signed = "\0".join(("litecast forwarded", *fields, received.method, received.target))
    return hmac.digest(key, signed.encode("utf-8", "surrogateescape"), "sha256").hex()
