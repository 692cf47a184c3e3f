"""Views over HTTP, and what is known of each afterwards."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import httpx

VIEW_TIMEOUT_S = 10.0


class Outcome(Enum):
    """How a request to count a view ended, by the API's promise."""

    COUNTED = "counted"  # 200: after its commit
    REFUSED = "refused"  # 4xx, 503, or there was no connection: nothing was counted
    UNKNOWN = "unknown"  # anything else


class Traffic:
    """Sends views to nodes and keeps count of the outcomes, by page."""

    def __init__(self, client: httpx.AsyncClient, urls: Callable[[], Mapping[str, str]]) -> None:
        self._client = client
        self._urls = urls
        self._outcomes: Counter[tuple[str, Outcome]] = Counter()

    def tally(self, page: str, outcome: Outcome = Outcome.COUNTED) -> int:
        """How many views of `page` ended so."""
        return self._outcomes[page, outcome]

    async def view(self, node: str, page: str) -> Outcome:
        """Counts one view of `page` on `node`. A view that is cancelled is noted as unknown."""
        outcome = Outcome.UNKNOWN
        try:
            outcome = await self._post(f"{self._urls()[node]}/api/pages/{page}/views")
        finally:
            self._outcomes[page, outcome] += 1
        return outcome

    async def at_once(self, views: Sequence[tuple[str, str]]) -> None:
        """Counts all these views, each a node and a page, at the same time."""
        async with asyncio.TaskGroup() as group:
            for node, page in views:
                group.create_task(self.view(node, page))

    async def visitors(self, schedule: Sequence[tuple[str, str]], visitors: int) -> None:
        """Counts the views in order; so many visitors take the next one each, as soon as theirs was answered."""
        remaining = iter(schedule)

        async def visit() -> None:
            for node, page in remaining:
                await self.view(node, page)

        async with asyncio.TaskGroup() as group:
            for _ in range(visitors):
                group.create_task(visit())

    async def _post(self, url: str) -> Outcome:
        try:
            response = await self._client.post(url, timeout=VIEW_TIMEOUT_S)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            return Outcome.REFUSED
        except httpx.HTTPError:
            return Outcome.UNKNOWN
        return outcome_of(response.status_code)


def outcome_of(status: int) -> Outcome:
    """What a status says about the view."""
    if status == httpx.codes.OK:
        return Outcome.COUNTED
    if 400 <= status < 500 or status == httpx.codes.SERVICE_UNAVAILABLE:
        return Outcome.REFUSED
    return Outcome.UNKNOWN
