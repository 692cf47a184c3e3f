"""The web application of a node: its routes and what they answer.

`GET` changes nothing, with one exception: `GET /` is the page whose views are counted (`app.web.counting`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.counter import PageCounter
from app.metrics import NodeCollector, PageViews, exposition, registry
from app.report import ClusterReport, NodeView
from app.standing import StatusOf
from app.web.admin import AdminGate
from app.web.answers import error, http_error, no_store, secure
from app.web.assets import Page, StaticFiles
from app.web.changes import ChangeLimits, Changes, ChangesApi
from app.web.counting import CounterPages
from app.web.drift import Drift, DriftApi
from app.web.forget import Forget, ForgetApi
from app.web.live import LiveFeed, LiveLimits, LiveStream, NextChange
from app.web.promote import Promote, PromoteApi
from app.web.state import cluster_summary, live_state
from app.web.tails import TailsApi
from app.web.writes import StatementsApi

log = logging.getLogger(__name__)


class WebApp:
    """The ASGI application (`asgi`) and its end (`stop`).

    `counter` is None on a node beside a program of somebody else's: it has no page to count, and `/` is the live page.
    `unready` names what is not up yet, one line for each; an empty answer means that the node is ready. `status` asks
    how replication stands; None in the modes that have nothing to say of it. `drift` compares the nodes, `gate` says
    who may do more than look. `changes` is the change feed; `next_change` gives an event for the next change here, in
    the mode that has a feed. `program` is where the program beside the node is reached.
    `statements` takes what that program writes by statement, `tails` shows what a former primary wrote for nobody.
    """

    def __init__(
        self,
        *,
        node: NodeView,
        counter: PageCounter | None,
        report: ClusterReport,
        mode: str,
        unready: Callable[[], Sequence[str]],
        status: StatusOf | None = None,
        drift: Drift,
        gate: AdminGate,
        forget: Forget | None = None,
        promote: Promote | None = None,
        tails: TailsApi | None = None,
        changes: Changes,
        next_change: NextChange | None = None,
        live: LiveLimits | None = None,
        change_limits: ChangeLimits | None = None,
        program: str = "",
        statements: StatementsApi | None = None,
    ) -> None:
        self._node = node
        self._report = report
        self._mode = mode
        self._unready = unready
        self._program = program
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
        self._live = Page("live.html")
        self._stopping = False
        self._pages = (
            None
            if counter is None
            else CounterPages(node=node, counter=counter, report=report, mode=mode, views=self._views)
        )
        self._asgi = _Guard(
            Starlette(
                routes=[
                    *(
                        [Route("/", _to_the_live_page, methods=["GET"])]
                        if self._pages is None
                        else self._pages.routes()
                    ),
                    Route("/cluster", self._get_live_page, methods=["GET"]),
                    Route("/api/live", self._get_live, methods=["GET"]),
                    Route("/api/changes", self._changes.get, methods=["GET"]),
                    Route("/api/cluster", self._get_cluster, methods=["GET"]),
                    Route("/api/drift", drift_api.get, methods=["GET"]),
                    Route("/api/drift/repair", drift_api.repair, methods=["POST"]),
                    Route("/api/peers/forget", ForgetApi(forget, gate).post, methods=["POST"]),
                    Route("/api/promote", PromoteApi(promote, gate).post, methods=["POST"]),
                    *([] if tails is None else tails.routes()),
                    *([] if statements is None else [Route("/api/statements", statements.post, methods=["POST"])]),
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
        if self._pages is not None:
            self._pages.stopping = True
        self._feed.stop()
        self._changes.stop()

    async def _state(self) -> object:
        self._drift.looked()
        reports = await self._report.beliefs()
        return live_state(
            self._node, self._mode, list(reports.values()), self._drift.latest, at_ms=int(time.time() * 1000)
        )

    async def _get_live_page(self, request: Request) -> Response:
        counter = "no" if self._pages is None else "yes"
        return self._live.render(
            {"node": self._node.name, "region": self._node.region, "mode": self._mode, "counter": counter}
        )

    async def _get_live(self, request: Request) -> Response:
        return LiveStream(self._feed)

    async def _get_cluster(self, request: Request) -> Response:
        return no_store(cluster_summary(self._node, self._mode, self._status, self._program))

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


async def _to_the_live_page(request: Request) -> Response:
    return RedirectResponse("/cluster")


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
