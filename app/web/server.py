"""The HTTP server inside the node's own event loop.

The socket is bound before anything else starts, so that an address that cannot be used is one line with a remedy and
not a half-started node. Signals stay with the node: it decides in which order its parts stop. Stopping ends the streams
first, lets requests that are being answered finish, and cuts what is left after `GRACE_S`.
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Generator
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from app.errors import AppError

BACKLOG = 512
CONNECTIONS_MAX = 1024  # beyond it requests get 503; below the usual limit of 1,024 open files there is little left
KEEP_ALIVE_S = 15
HEADERS_MAX_BYTES = 32 * 1024
GRACE_S = 0.6  # for requests that are being answered; with the rest, stopping takes less than a second
TICK_S = 0.1


class HttpBindError(AppError):
    """The web server could not listen at its address."""


class Stoppable(Protocol):
    """An application that can be told that no more is to come."""

    @property
    def asgi(self) -> ASGIApp: ...

    def stop(self) -> None:
        """End the endless responses and refuse new work. Returns at once."""
        ...


def bind(host: str, port: int, *, setting: str = "http.bind") -> socket.socket:
    """A TCP socket that listens at `host` and `port` (0: any free one); IPv4 or IPv6, as the host says.

    `*` is every address of this machine, over IPv6 and IPv4 where the machine has both. Raises `HttpBindError`, whose
    text names `setting` as the place where the address came from.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if host in ("*", ""):
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError) as exc:
        raise HttpBindError(
            f"{setting}: {where} is not an address of this machine ({getattr(exc, 'strerror', None) or exc}); "
            "use 127.0.0.1:8080, or 0.0.0.0:8080 for every network"
        ) from exc
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A restarted node must get its port back at once; a port that somebody listens on stays refused.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            both = ipaddress.ip_address(str(address[0]).partition("%")[0]).is_unspecified
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        raise HttpBindError(_why(exc, where, setting)) from exc
    return listener


def _why(exc: OSError, where: str, setting: str) -> str:
    match exc.errno:
        case errno.EADDRINUSE:
            return f"{setting}: {where} is in use by another program; stop it, or set {setting} to another port"
        case errno.EACCES | errno.EPERM:
            return f"{setting}: {where} needs more rights than this process has; use a port of 1024 or above"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"{setting}: {where} is not an address of this machine; use 127.0.0.1 or 0.0.0.0, or [::] for IPv6"
        case _:
            return f"{setting}: cannot listen at {where}: {exc.strerror or exc}; set {setting} to another address"


class _Server(uvicorn.Server):
    """Uvicorn that leaves the signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class WebServer:
    """Serves one application on one listening socket, which it owns from now on."""

    def __init__(self, app: Stoppable, listener: socket.socket) -> None:
        self._app = app
        self._listener = listener
        self._address = listener.getsockname()
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it serves, with the port that was really bound: `http://127.0.0.1:8080`."""
        host, port = self._address[0], self._address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Begin to serve; returns once requests are accepted. Raises what kept the server from starting."""
        config = uvicorn.Config(
            self._app.asgi,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=HEADERS_MAX_BYTES,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="web server")
        while not self._server.started:
            await asyncio.wait({self._task}, timeout=0.005)
            if self._task.done():
                await self._task
                raise RuntimeError("the web server ended before it began to serve")

    async def stop(self) -> None:
        """End the streams, finish what is being answered, close. Takes less than a second; repeating it is harmless."""
        self._app.stop()
        server, task = self._server, self._task
        if server is None or task is None:
            self._listener.close()
            return
        server.should_exit = True
        _, pending = await asyncio.wait({task}, timeout=GRACE_S)
        if pending:
            # Whoever is left does not read what it is sent, or asked for something that takes too long.
            for connection in list(server.server_state.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            server.force_exit = True
            _, pending = await asyncio.wait({task}, timeout=TICK_S)
            for running in list(server.server_state.tasks):
                running.cancel()
            if pending:
                _, pending = await asyncio.wait({task}, timeout=TICK_S)
        if pending:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._listener.close()
