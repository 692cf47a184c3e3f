"""What can be seen of the middleware's two faces only by calling them."""

import io
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.lease.boot_clock import boot_clock_s
from replication.middleware.asgi import PrimaryAsgi
from replication.middleware.desk import NoDatabase
from replication.middleware.node_file import NodeFileWriter, NodeSays, OtherNode
from replication.middleware.received import FORWARDED, NOT_PRIMARY, Received, forwarded_header
from replication.middleware.statements import PrimaryStatements
from replication.middleware.wsgi import PrimaryWsgi

BODY = b"x" * 2_000_000


def says(database: Path, **others: str) -> NodeSays:
    """This node is a replica; the first of the others is the primary."""
    found = NodeSays(
        node="beta",
        region="here",
        url="http://127.0.0.1:1",
        primary=next(iter(others), None),
        good_until_s=0.0,
        key=b"k",
        is_secret=True,
        hold_s=0.2,
        visible_s=0.1,
        others={name: OtherNode(region="here", url=url) for name, url in others.items()},
    )
    database.touch()
    NodeFileWriter(database).tell(found, awake_s=boot_clock_s())
    return found


def mark(found: NodeSays) -> str:
    """As another node signs a request that it forwards."""
    received = Received(
        method="POST",
        path="/x",
        target="/x",
        query="",
        scheme="http",
        client="127.0.0.1",
        position="",
        cookie="",
        prefer_region="",
        forwarded="",
        was_replayed=False,
        body_bytes=0,
    )
    return forwarded_header(received, found)


def nobody(*_: object) -> Any:
    raise AssertionError("the program is not asked")


def environ_of(body: bytes, **more: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/x",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        **more,
    }


def test_who_refuses_a_forwarded_request_reads_its_body_so_that_the_answer_is_not_lost(tmp_path: Path) -> None:
    database = tmp_path / "app.db"
    environ = environ_of(BODY, HTTP_LITECAST_FORWARDED=mark(says(database)))
    answered: list[Any] = []
    b"".join(PrimaryWsgi(nobody, database=database)(environ, lambda *said: answered.append(said)))  # type: ignore[arg-type]
    ((status, headers),) = answered
    assert status.startswith("503")
    assert (NOT_PRIMARY, "1") in headers
    assert environ["wsgi.input"].read() == b""


async def test_and_so_does_the_other_face(tmp_path: Path) -> None:
    database = tmp_path / "app.db"
    pieces = [BODY, b"y"]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(FORWARDED.encode(), mark(says(database)).encode()), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": headers}
    await PrimaryAsgi(nobody, database=database)(scope, receive, send)
    assert sent[0]["status"] == 503
    assert pieces == []


def test_each_request_has_a_connection_of_its_own(tmp_path: Path) -> None:
    database = tmp_path / "app.db"
    with keeping_connections() as (url, connections):
        says(database, alpha=url)
        app = PrimaryWsgi(nobody, database=database)
        for _ in range(3):
            b"".join(app(environ_of(b"1"), lambda *said: lambda data: None))
    assert len(connections) == 3


@contextmanager
def keeping_connections() -> Iterator[tuple[str, list[object]]]:
    """A server that would go on on the same connection; and all that came."""
    connections: list[object] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            connections.append(self.client_address)
            while self.rfile.readline():
                size = 0
                while (line := self.rfile.readline().strip()) != b"":
                    if line.lower().startswith(b"content-length:"):
                        size = int(line.split(b":")[1])
                self.rfile.read(size)
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", connections
        finally:
            server.shutdown()
            thread.join()


def test_who_is_not_told_where_the_database_is_says_so_at_once() -> None:
    for make in (lambda: PrimaryWsgi(nobody), lambda: PrimaryAsgi(nobody), PrimaryStatements):
        with pytest.raises(NoDatabase, match="DATABASE_PATH"):
            make()
