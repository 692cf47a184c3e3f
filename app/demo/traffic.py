"""Views over HTTP, and what is known of each afterwards."""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from http import HTTPStatus
from statistics import median

from app.demo.config_files import HOST
from app.demo.http_visits import Connections, NoAnswer, NotSent
from app.devproxy.wishes import FORCE_INSTANCE

VIEW_TIMEOUT_S = 10.0


class Outcome(Enum):
    """How a request to count a view ended, by the API's promise."""

    COUNTED = "counted"  # 200: after its commit
    REFUSED = "refused"  # 4xx, 503, or there was no connection: nothing was counted
    UNKNOWN = "unknown"  # anything else


class Traffic:
    """Sends views to nodes and keeps count of the outcomes, by page. `ports` says where each node is now.

    `entry`: the port of an entry in front of them, by which all go then."""

    def __init__(self, ports: Callable[[], Mapping[str, int]], *, entry: int | None = None) -> None:
        self._ports = ports
        self._entry = entry
        self._connections = Connections()
        self._outcomes: Counter[tuple[str, Outcome]] = Counter()
        self._took_s: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._answered = asyncio.Event()
        self.ended_s = time.monotonic()
        """When the last view so far ended."""

    def tally(self, page: str, outcome: Outcome = Outcome.COUNTED) -> int:
        """How many views of `page` ended so."""
        return self._outcomes[page, outcome]

    async def view(self, node: str, page: str) -> Outcome:
        """Counts one view of `page` on `node`. A view that is cancelled is noted as unknown."""
        outcome, began_s = Outcome.UNKNOWN, time.monotonic()
        try:
            outcome = await self._post(node, f"/api/pages/{page}/views")
        finally:
            self._outcomes[page, outcome] += 1
            self._answered.set()
            self.ended_s = time.monotonic()
            if outcome is Outcome.COUNTED:
                self._took_s[page, node].append(self.ended_s - began_s)
        return outcome

    async def until(self, page: str, count: int, within_s: float = VIEW_TIMEOUT_S) -> None:
        """Returns when so many views of `page` were counted, or after so long."""
        deadline = time.monotonic() + within_s
        while self.tally(page) < count and time.monotonic() < deadline:
            self._answered.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), deadline - time.monotonic())

    def took_s(self, page: str, nodes: Iterable[str]) -> float | None:
        """How long the answer to a view of `page` on one of these nodes took, the median; None without any."""
        took = [took_s for node in nodes for took_s in self._took_s[page, node]]
        return median(took) if took else None

    async def prepare(self, visitors: Mapping[str, int]) -> None:
        """Opens connections for so many visitors of each node, so that their views begin at the same moment."""
        wanted: Counter[int] = Counter()
        for node, count in visitors.items():
            wanted[self._port(node)] += count
        for port, count in wanted.items():
            await self._connections.open(HOST, port, count)

    async def at_once(self, views: Sequence[tuple[str, str]]) -> None:
        """Counts all these views, each a node and a page, at the same time."""
        async with asyncio.TaskGroup() as group:
            for node, page in views:
                group.create_task(self.view(node, page))

    async def visitors(self, views: Iterable[tuple[str, str]], visitors: int) -> None:
        """Counts the views in order; so many visitors take the next one each, as soon as theirs was answered."""
        remaining = iter(views)

        async def visit() -> None:
            for node, page in remaining:
                await self.view(node, page)

        async with asyncio.TaskGroup() as group:
            for _ in range(visitors):
                group.create_task(visit())

    def close(self) -> None:
        """Closes the connections."""
        self._connections.close()

    def _port(self, node: str) -> int:
        return self._ports()[node] if self._entry is None else self._entry

    async def _post(self, node: str, path: str) -> Outcome:
        headers = "" if self._entry is None else f"{FORCE_INSTANCE}: {node}\r\n"
        try:
            async with asyncio.timeout(VIEW_TIMEOUT_S):
                return outcome_of(await self._connections.post(HOST, self._port(node), path, headers))
        except NotSent:
            return Outcome.REFUSED
        except (NoAnswer, TimeoutError):
            return Outcome.UNKNOWN


def outcome_of(status: int) -> Outcome:
    """What a status says about the view."""
    if status == HTTPStatus.OK:
        return Outcome.COUNTED
    if 400 <= status < 500 or status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Outcome.REFUSED
    return Outcome.UNKNOWN
