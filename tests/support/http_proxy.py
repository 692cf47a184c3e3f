"""A proxy in front of a real HTTP server, on which requests fare as they may on the way to an object store."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW_S = 0.4
_SKEWED = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The clocks are an hour apart.</Message></Error>"


class Fate(Enum):
    """What becomes of a request."""

    PASSES = "it is passed on, and its answer passed back"
    SLOW = "the same, and it takes its time"
    TWICE = "it is passed on twice, and the second answer passed back"
    LOST = "it is passed on, and its answer never comes"
    MANY = "429"
    BUSY = "503"
    SKEWED = "403, as a store answers whose clock and the client's are too far apart"


class HttpProxy:
    """`fate` decides for each request, by its method and its path with the query. It runs in threads of its own."""

    def __init__(self) -> None:
        self.fate: Callable[[str, str], Fate] = lambda method, path: Fate.PASSES
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def http_proxy(target_port: int) -> Iterator[HttpProxy]:
    """One that runs, in front of a port of this machine."""
    proxy = HttpProxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with contextlib.suppress(OSError):  # who asked is gone
                super().handle_one_request()
                return
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

        def _fares(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            fate = proxy.fate(self.command, self.path)
            if fate in (Fate.MANY, Fate.BUSY):
                return self._answer(int(fate.value), [], b"")
            if fate is Fate.SKEWED:
                return self._answer(403, [("content-type", "application/xml")], _SKEWED)
            if fate is Fate.SLOW:
                time.sleep(SLOW_S)
            answer = self._passed_on(body)
            if fate is Fate.TWICE:
                answer = self._passed_on(body)
            if fate is Fate.LOST:
                self.close_connection = True
                return None
            return self._answer(*answer)

        def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", target_port, timeout=20)) as connection:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)  # as they are: they are signed
                connection.endheaders(body)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            length = str(len(body))
            for name, value in headers:
                if name.lower() == "content-length":
                    length = value  # of a HEAD it is not the body's
                elif name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("content-length", length)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _fares  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
