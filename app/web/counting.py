"""The counter's part of the web: the counted page, and the API that counts.

`GET /` is the page whose views are counted; a `HEAD` never counts. The API promises: 200 after the commit; 4xx and 503,
nothing was counted; anything else, unknown.
"""

import asyncio
import html
import logging
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.counter import NotCounted, PageCounter
from app.metrics import PageViews
from app.report import ClusterReport, NodeReport, NodeView, drift
from app.web.answers import error, no_store
from app.web.assets import Page
from app.web.page_names import page_path
from replication.errors import ReplicationError

log = logging.getLogger(__name__)

HOME = "home"
PAGES_PREFIX = "/api/pages/"
SETTLE_S = 0.1  # a cast and the commit it leads to take a few milliseconds between healthy nodes


class CounterPages:
    """The routes of a node that counts views. `stopping` is set once nothing may be counted any more."""

    def __init__(
        self, *, node: NodeView, counter: PageCounter, report: ClusterReport, mode: str, views: PageViews
    ) -> None:
        self.stopping = False
        self._node = node
        self._counter = counter
        self._report = report
        self._mode = mode
        self._views = views
        self._home = Page("home.html")

    def routes(self) -> list[Route]:
        """`/` and what is below `/api/pages/`."""
        return [
            Route("/", self._get_home, methods=["GET"]),
            Route(PAGES_PREFIX + "{rest:path}", self._page, methods=["GET", "POST"]),
        ]

    async def _page(self, request: Request) -> Response:
        page, rest = page_path(request.scope, PAGES_PREFIX)
        match rest, request.method:
            case "", "GET" | "HEAD":
                return await self._get_page(page)
            case "", _:
                raise HTTPException(405, "views are counted with POST /api/pages/{page}/views", {"allow": "GET, HEAD"})
            case "views", "POST":
                return await self._count_view(page)
            case "views", _:
                raise HTTPException(405, "a view is counted with POST", {"allow": "POST"})
            case _:
                raise HTTPException(404, "no such path; a slash in a page's name is written %2F")

    async def _get_page(self, page: str) -> Response:
        try:
            count = await self._counter.current(page)
        except ReplicationError as exc:
            log.warning("a count could not be read: %s", exc)
            return error(503, "the database cannot be read now", {"retry-after": "1"})
        if count is None:
            return error(404, f"{page!r} was never counted on this node")
        return no_store({"page": page, "count": count, "node": self._node.name})

    async def _count_view(self, page: str) -> Response:
        try:
            count = await self._count(page)
        except NotCounted as exc:
            return error(503, f"nothing was counted: {exc}", {"retry-after": "1"})
        except ReplicationError as exc:
            log.error("whether a view was counted is unknown: %s", exc)
            return error(500, "whether the view was counted is unknown")
        return no_store({"page": page, "count": count, "node": self._node.name})

    async def _count(self, page: str) -> int:
        """Count a view and note how it ended. Raises what `PageCounter.count_view` raises."""
        outcome = "unknown"
        try:
            if self.stopping:
                raise NotCounted("this node is stopping")
            row = await self._counter.count_view(page)
            outcome = "counted"
        except NotCounted:
            outcome = "refused"
            raise
        finally:
            self._views.ended(outcome)
        self._report.note(page)
        return int(row["count"])

    async def _get_home(self, request: Request) -> Response:
        status, problem = 200, ""
        count: int | None = None
        try:
            if request.method == "HEAD":
                count = await self._counter.current(HOME)
            else:
                count = await self._count(HOME)
        except NotCounted as exc:
            status, problem = 503, f"This view was not counted: {exc}."
        except ReplicationError as exc:
            log.error("whether a view was counted is unknown: %s", exc)
            status, problem = 500, "Whether this view was counted is unknown."
        reports = await self._beliefs()
        return self._home.render(
            {
                "node": self._node.name,
                "region": self._node.region,
                "mode": self._mode,
                "count": "—" if count is None else f"{count:,}",
                "problem_html": f'<p class="notice bad" role="alert">{html.escape(problem)}</p>' if problem else "",
                "beliefs_html": "\n".join(_belief_row(report) for report in reports),
                "verdict_html": _verdict(drift(reports, HOME), reports),
            },
            status=status,
        )

    async def _beliefs(self) -> list[NodeReport]:
        try:
            reports = list((await self._report.beliefs()).values())
            if drift(reports, HOME):
                # The view just counted may still be on its way to the others: look once more before calling it drift.
                await asyncio.sleep(SETTLE_S)
                reports = list((await self._report.beliefs()).values())
            return reports
        except ReplicationError as exc:
            log.warning("the page shows no node's count: %s", exc)
            return []


def _belief_row(report: NodeReport) -> str:
    count = report.count(HOME)
    shown = "unknown" if count is None else f"{count:,}"
    if count is not None and report.stale:
        shown += ' <small class="muted">last known</small>'
    you = ' <span class="tag">this node</span>' if report.itself else ""
    state = html.escape(report.state)
    return (
        f'<tr><th scope="row">{html.escape(report.name)}{you}</th><td>{html.escape(report.region)}</td>'
        f'<td><span class="state {state}">{state}</span></td><td class="number">{shown}</td></tr>'
    )


def _verdict(apart: int, reports: Sequence[NodeReport]) -> str:
    if sum(report.comparable for report in reports) < 2:
        return '<p class="notice">No other node has answered: there is nothing to compare with.</p>'
    if apart:
        return f'<p class="notice bad">The nodes disagree by <strong>{apart:,}</strong>.</p>'
    return '<p class="notice good">All nodes that answered agree.</p>'
