"""Asks a running node over HTTP what it knows of its cluster."""

from dataclasses import dataclass
from typing import Any

import httpx

from app.errors import NodeUnreachable
from cluster.address import Address

TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What a node says of itself. `cluster` is the object that `GET /api/cluster` gives."""

    url: str
    ready: bool
    cluster: dict[str, Any]


def url_of(bind: Address) -> str:
    """Where a program on the same machine reaches a web server that is bound to this address."""
    host = bind.host
    if bind.is_wildcard:
        host = "::1" if ":" in bind.host else "127.0.0.1"
    return f"http://{Address(host, bind.port).host_and_port}"


def ask_node(url: str, *, transport: httpx.BaseTransport | None = None) -> NodeReport:
    """The node's own report. Takes 3 seconds at most for each of its two questions.

    Raises NodeUnreachable if nothing answers at `url`, or something else than a Litecast node does.
    """
    try:
        # A proxy of the environment's is for the web, not for a node on this machine.
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False, transport=transport) as client:
            cluster = client.get("/api/cluster")
            ready = client.get("/readyz").status_code == httpx.codes.OK
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NodeUnreachable(
            f"no node answers at {url} ({reason(error)}): is it running? --config FILE or --url URL say where it is"
        ) from None
    try:
        report = cluster.raise_for_status().json()
        if not (
            isinstance(report, dict) and isinstance(report["node"]["name"], str) and isinstance(report["peers"], list)
        ):
            raise ValueError("not a cluster report")
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
        raise NodeUnreachable(
            f"what answers at {url} is not a Litecast node (status {cluster.status_code}): check the address"
        ) from None
    return NodeReport(url=url, ready=ready, cluster=report)


def reason(error: Exception) -> str:
    """What the network says was wrong, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
