"""Which headers a proxy passes on, and which it adds.

Hop-by-hop headers end here; `X-Forwarded-*` tell the node what the client's connection was like.
"""

from collections.abc import Iterable, Mapping

from replication.middleware.headers import Headers, end_to_end

SERVED_BY = b"x-served-by"


def for_node(headers: Iterable[tuple[bytes, bytes]], *, client: str, scheme: str) -> Headers:
    """What a node gets of a client's request. `client` is the address that the request came from, or empty.

    Addresses in an `X-Forwarded-For` that came with it are kept in front; the rest of what it claims is replaced.
    """
    passed = end_to_end(headers)
    given = dict(passed)
    chain = [value for name, value in passed if name == b"x-forwarded-for"]
    if client:
        chain.append(client.encode())
    added = {
        b"x-forwarded-for": b", ".join(chain),
        b"x-forwarded-host": given.get(b"host", b""),
        b"x-forwarded-proto": scheme.encode(),
    }
    return [item for item in passed if item[0] not in added] + _present(added)


def for_client(headers: Iterable[tuple[bytes, bytes]], *, served_by: str) -> Headers:
    """What a client gets of a node's response, and `X-Served-By`, the name of that node.

    `Date` is left out: the server that sends this response sets its own.
    """
    passed = [item for item in end_to_end(headers) if item[0] not in (SERVED_BY, b"date")]
    return [*passed, (SERVED_BY, served_by.encode("latin-1", "replace"))]


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request with these headers has a body, which may still be empty."""
    lowered: Mapping[bytes, bytes] = {name.lower(): value for name, value in headers}
    return b"transfer-encoding" in lowered or lowered.get(b"content-length", b"0") != b"0"


def _present(headers: Mapping[bytes, bytes]) -> Headers:
    return [(name, value) for name, value in headers.items() if value]
