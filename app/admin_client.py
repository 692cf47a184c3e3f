"""Asks a running node over HTTP to compare the cluster, and to mend it."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

from app.errors import NodeRefused, NodeUnreachable
from app.node_client import reason
from replication.drift import DriftReport
from replication.engine.received import Malformed, fields
from replication.measuring.mending import REPAIR_DEADLINE_S, ClusterRepair
from replication.measuring.questions import Repair

TIMEOUT_S = 150.0
"""Longer than a node takes at most for comparing, so that the node says what kept it."""
REPAIR_TIMEOUT_S = REPAIR_DEADLINE_S + TIMEOUT_S
CONNECT_TIMEOUT_S = 3.0


class AdminClient:
    """One node. `token` is the admin token, None if no secret is known here."""

    def __init__(self, url: str, token: str | None, *, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        self._token = token
        self._transport = transport

    def drift(self, *, rows: bool) -> DriftReport:
        """What is found now. Raises NodeUnreachable and NodeRefused."""
        answer = self._ask("GET", "/api/drift?rows=1" if rows else "/api/drift")
        try:
            return DriftReport.from_json(answer)
        except Malformed as error:
            raise self._is_no_node(str(error)) from None

    def repair(self, how: Repair) -> tuple[ClusterRepair, DriftReport]:
        """Has all nodes mend their damaged rows: what became of them, and what is found afterwards.

        Raises NodeUnreachable and NodeRefused; after the first, it may be done all the same.
        """
        answer = self._ask("POST", "/api/drift/repair", {"how": how.value}, timeout_s=REPAIR_TIMEOUT_S)
        try:
            repaired, report = fields(answer, "repair", "drift")
            return ClusterRepair.from_json(repaired), DriftReport.from_json(report)
        except Malformed as error:
            raise self._is_no_node(str(error)) from None

    def forget(self, nodes: Sequence[str]) -> None:
        """These nodes are gone for good. Raises NodeUnreachable; and NodeRefused, with nothing done."""
        self._ask("POST", "/api/peers/forget", {"nodes": list(nodes)})

    def promote(self, node: str) -> None:
        """That node is the primary now. Raises NodeUnreachable, after which it may be all the same; and NodeRefused."""
        self._ask("POST", "/api/promote", {"node": node})

    def tails(self) -> list[dict[str, Any]]:
        """The tails that the node keeps. Raises NodeUnreachable and NodeRefused."""
        found: list[dict[str, Any]] = self._of_tails(self._ask("GET", "/api/tails"), "tails")
        return found

    def tail(self, name: str, *, limit: int) -> dict[str, Any]:
        """What one comes to, the first rows of it. Raises NodeUnreachable and NodeRefused."""
        found: dict[str, Any] = self._of_tails(self._ask("GET", f"/api/tails/{quote(name, safe='')}?limit={limit}"))
        return found

    def apply_tail(self, name: str) -> int:
        """How many rows it changed, written again on the primary. Raises NodeUnreachable, after which it may be all the
        same; and NodeRefused."""
        return int(self._of_tails(self._ask("POST", f"/api/tails/{quote(name, safe='')}/apply", {}), "rows"))

    def drop_tail(self, name: str) -> dict[str, Any]:
        """The tail that was dropped. Raises NodeUnreachable, after which it may be all the same; and NodeRefused."""
        found: dict[str, Any] = self._of_tails(
            self._ask("POST", f"/api/tails/{quote(name, safe='')}/drop", {}), "dropped"
        )
        return found

    def _of_tails(self, answer: Any, part: str | None = None) -> Any:
        if not isinstance(answer, dict) or (part is not None and part not in answer):
            raise self._is_no_node("what it says of tails")
        return answer if part is None else answer[part]

    def _ask(self, method: str, path: str, body: object = None, *, timeout_s: float = TIMEOUT_S) -> Any:
        headers = {} if self._token is None else {"authorization": f"Bearer {self._token}"}
        try:
            # A proxy of the environment's is for the web, not for a node on this machine.
            with httpx.Client(
                base_url=self._url,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
                trust_env=False,
                transport=self._transport,
            ) as client:
                answer = client.request(method, path, headers=headers, json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NodeUnreachable(
                f"no node answers at {self._url} ({reason(error)}): is it running? --config FILE or --url URL say "
                "where it is"
            ) from None
        try:
            content = answer.json()
        except ValueError:
            content = None
        if answer.is_success and content is not None:
            return content
        text = content.get("error") if isinstance(content, dict) else None
        if not isinstance(text, str):
            raise self._is_no_node(f"status {answer.status_code}")
        raise NodeRefused(f"{self._url} says: {text}")

    def _is_no_node(self, why: str) -> NodeUnreachable:
        return NodeUnreachable(
            f"what answers at {self._url} is not a Litecast node of this version ({why}): check the address"
        )
