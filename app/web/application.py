"""The web application of a node: its routes and what they answer.

`GET` changes nothing, with one exception: `GET /` is the page whose views are counted. A `HEAD` never counts. The
counting API promises: 200 after the commit; 4xx and 503, nothing was counted; anything else, unknown.
"""

import asyncio
import html
import logging
import time
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.counter import NotCounted, PageCounter
from app.metrics import NodeCollector, PageViews, exposition, registry
from app.report import ClusterReport, NodeReport, NodeView, drift
from app.standing import StatusOf
from app.web.admin import AdminGate
from app.web.answers import error, http_error, no_store, secure
from app.web.assets import Page, StaticFiles
from app.web.changes import ChangeLimits, Changes, ChangesApi
from app.web.drift import Drift, DriftApi
from app.web.live import LiveFeed, LiveLimits, LiveStream, NextChange
from app.web.page_names import page_path
from app.web.state import cluster_summary, live_state
from replication.errors import ReplicationError

log = logging.getLogger(__name__)

HOME = "home"
PAGES_PREFIX = "/api/pages/"
SETTLE_S = 0.1  # a cast and the commit it leads to take a few milliseconds between healthy nodes


class WebApp:
    """The ASGI application (`asgi`) and its end (`stop`).

    `unready` names what is not up yet, one line for each; an empty answer means that the node is ready. `status` asks
    how replication stands; None in the modes that have nothing to say of it. `drift` compares the nodes, `gate` says
    who may do more than look. `changes` is the change feed; `next_change` gives an event for the next change here, in
    the mode that has a feed.
    """

    def __init__(
        self,
        *,
        node: NodeView,
        counter: PageCounter,
        report: ClusterReport,
        mode: str,
        unready: Callable[[], Sequence[str]],
        status: StatusOf | None = None,
        drift: Drift,
        gate: AdminGate,
        changes: Changes,
        next_change: NextChange | None = None,
        live: LiveLimits | None = None,
        change_limits: ChangeLimits | None = None,
    ) -> None:
        self._node = node
        self._counter = counter
        self._report = report
        self._mode = mode
        self._unready = unready
        self._status = status
        self._drift = drift
        drift_api = DriftApi(drift, gate, repairs=status is not None)
        self._changes = ChangesApi(changes, gate, change_limits)
        self._feed = LiveFeed(self._state, live, next_change=next_change)
        self._views = PageViews()
        self._registry = registry(
            NodeCollector(
                node,
                mode=mode,
                views=self._views,
                ready=lambda: not unready(),
                status=status,
                drift=lambda: drift.latest,
                streams=lambda: self._feed.streams,
            )
        )
        self._home = Page("home.html")
        self._live = Page("live.html")
        self._stopping = False
        self._asgi = _Guard(
            Starlette(
                routes=[
                    Route("/", self._get_home, methods=["GET"]),
                    Route("/cluster", self._get_live_page, methods=["GET"]),
                    Route("/api/live", self._get_live, methods=["GET"]),
                    Route("/api/changes", self._changes.get, methods=["GET"]),
                    Route("/api/cluster", self._get_cluster, methods=["GET"]),
                    Route("/api/drift", drift_api.get, methods=["GET"]),
                    Route("/api/drift/repair", drift_api.repair, methods=["POST"]),
                    Route("/api/pages/{rest:path}", self._page, methods=["GET", "POST"]),
                    Route("/healthz", self._get_health, methods=["GET"]),
                    Route("/readyz", self._get_ready, methods=["GET"]),
                    Route("/metrics", self._get_metrics, methods=["GET"]),
                    Route("/static/{name}", StaticFiles().serve, methods=["GET"]),
                ],
                exception_handlers={HTTPException: http_error, Exception: _our_fault},
            )
        )

    @property
    def asgi(self) -> ASGIApp:
        """What the server runs."""
        return self._asgi

    def stop(self) -> None:
        """End the streams and refuse to count from now on. Returns at once."""
        self._stopping = True
        self._feed.stop()
        self._changes.stop()

    async def _state(self) -> object:
        self._drift.looked()
        reports = await self._report.beliefs()
        return live_state(
            self._node, self._mode, list(reports.values()), self._drift.latest, at_ms=int(time.time() * 1000)
        )

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
            if self._stopping:
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

    async def _get_live_page(self, request: Request) -> Response:
        return self._live.render({"node": self._node.name, "region": self._node.region, "mode": self._mode})

    async def _get_live(self, request: Request) -> Response:
        return LiveStream(self._feed)

    async def _get_cluster(self, request: Request) -> Response:
        return no_store(cluster_summary(self._node, self._mode, self._status))

    async def _get_health(self, request: Request) -> Response:
        return no_store({"status": "ok"})

    async def _get_ready(self, request: Request) -> Response:
        reasons = ["this node is stopping"] if self._stopping else list(self._unready())
        if reasons:
            return no_store({"status": "not ready", "error": "; ".join(reasons), "reasons": reasons}, 503)
        return no_store({"status": "ready"})

    async def _get_metrics(self, request: Request) -> Response:
        self._drift.looked()
        body, content_type = exposition(self._registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})


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


async def _our_fault(request: Request, exc: Exception) -> Response:
    return error(500, "something went wrong on this node; its log says what")


class _Guard:
    """Around everything: the headers of every response, and the log entry for an error of our own.

    Such an error is logged with its traceback, once, and answered with 500 and nothing of its text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answered = False

        async def sending(message: Message) -> None:
            nonlocal answered
            await send(secure(message))
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            # The server stops, and has already cut the connection. Raised further it would be logged as a failure.
            log.debug("a request was cut off: %s %r", scope["method"], scope["path"])
        except Exception:
            log.exception("a request failed: %s %r", scope["method"], scope["path"])
            if not answered:
                raise  # the server cuts the connection: nobody may take half a response for a whole one
