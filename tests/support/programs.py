"""Web programs beside two nodes of one cluster, as their middleware sees them: two databases, what the nodes say beside
them, and what carries changesets from the one to the other. The nodes themselves are not there."""

import contextlib
import sqlite3
import threading
import time
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any

import httpx
import uvicorn

from cluster.lease.boot_clock import boot_clock_s
from replication.engine.applying import merge_all
from replication.engine.folding import fold
from replication.middleware.node_file import NodeFileWriter, NodeSays, OtherNode
from tests.support.one_writer import Database

KEY = b"k" * 32
EPOCH = 2
"""In which alpha is the primary."""
NOWHERE = "http://127.0.0.1:9"
"""Nobody listens there."""


class Beside:
    """One node's database, and what its node says, as long as `heart_beats`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.database = Database(folder / f"{name}.db", name)
        self.path = self.database.path
        self.heart_beats = True
        self.says = NodeSays(
            node=name,
            region="here",
            url=NOWHERE,
            primary=None,
            good_until_s=0.0,
            key=KEY,
            is_secret=True,
            hold_s=0.4,
            visible_s=0.4,
        )
        self._writer = NodeFileWriter(self.path)
        self._lock = threading.Lock()

    def tell(self, **changes: Any) -> None:
        """The node says something else than before, at once."""
        with self._lock:
            self.says = replace(self.says, **changes)
            self._writer.tell(self.says, awake_s=boot_clock_s())

    def beat(self) -> None:
        if self.heart_beats:
            self.tell()

    def emails(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return [email for (email,) in connection.execute("SELECT email FROM users ORDER BY id")]


class Two:
    """The primary, `alpha`, and a replica, `beta`. While `is_carrying`, what the one commits arrives at the other."""

    def __init__(self, folder: Path) -> None:
        self.alpha, self.beta = Beside(folder, "alpha"), Beside(folder, "beta")
        self.alpha.database.begin(EPOCH)
        self.beta.database.end()
        self.beta.database.merge(*self.alpha.database.made)
        self.alpha.tell(primary="alpha", good_until_s=boot_clock_s() + 3600)
        self.beta.tell(primary="alpha")
        self.is_carrying = True
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def introduce(self, alpha_url: str, beta_url: str) -> None:
        """Each node knows where the other's program is."""
        self.alpha.tell(others={"beta": OtherNode(region="there", url=beta_url)})
        self.beta.tell(others={"alpha": OtherNode(region="here", url=alpha_url)}, region="there")

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for one in (self.alpha, self.beta):
            one.database.connection.close()

    def _run(self) -> None:
        here, there = (sqlite3.connect(one.path, isolation_level=None) for one in (self.alpha, self.beta))
        waiting: list[bytes] = []
        with contextlib.closing(here), contextlib.closing(there):
            while not self._over.wait(0.002):
                self.alpha.beat()
                self.beta.beat()
                folded = fold(here, now_ms=int(time.time() * 1000))
                waiting += [folded.encoded] if folded else []
                if self.is_carrying and waiting:
                    merge_all(there, waiting, now_ms=int(time.time() * 1000))
                    waiting.clear()


@contextlib.contextmanager
def served_wsgi(app: Callable[..., Any]) -> Iterator[str]:
    """The URL of a WSGI application."""

    class Server(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
        daemon_threads = True

    class Quiet(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with wsgiref.simple_server.make_server("127.0.0.1", 0, app, Server, Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def served_asgi(app: Any) -> Iterator[str]:
    """The URL of an ASGI application."""
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", proxy_headers=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline_s = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def browser(url: str) -> Iterator[httpx.Client]:
    """A client that keeps cookies."""
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        yield client
