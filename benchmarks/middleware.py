"""What the middleware of primary mode adds to a request that a replica answers itself.

The program does what a small page does: one row, read by its key with `sqlite3`. Requests with and without the
middleware take turns in one process, by calling the application: no server, no socket. `added_us` is the difference of
the medians."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measuring import AtMost, Benchmark, Comparison, Contestants, Figures
from cluster.lease.boot_clock import boot_clock_s
from replication.engine import epochs
from replication.engine.applying import merge_all
from replication.engine.attaching import TableChoice, attach
from replication.engine.epochs import epoch_site
from replication.engine.folding import fold
from replication.engine.stamps import Site
from replication.file_position import FilePosition
from replication.middleware import token
from replication.middleware.asgi import PrimaryAsgi
from replication.middleware.node_file import NodeFileWriter, NodeSays
from replication.middleware.received import POSITION
from replication.middleware.wsgi import PrimaryWsgi

ADDED = "added_us"
PLAIN = "p50_us"
KEY = b"k" * 32
PER_TURN = 100

BARE = {"wsgi": "a GET of one row, WSGI, without the middleware", "asgi": "the same over ASGI"}
SUBJECTS = {
    ("wsgi", False): "what PrimaryWsgi adds to a GET",
    ("wsgi", True): "what PrimaryWsgi adds to a GET of a client with a position",
    ("asgi", False): "what PrimaryAsgi adds to a GET",
    ("asgi", True): "what PrimaryAsgi adds to a GET of a client with a position",
}


def middleware(*, quick: bool) -> Benchmark:
    """A local GET with the middleware, beside the same without it."""
    return Benchmark(
        name="middleware",
        title="A GET that a replica answers from its own file, with the middleware of primary mode and without",
        rounds=3 if quick else 9,
        open=lambda: _open(500 if quick else 2_000),
        comparisons=(
            *(Comparison(subject=subject, figure=PLAIN) for subject in BARE.values()),
            *(Comparison(subject=subject, figure=ADDED, target=AtMost(100)) for subject in SUBJECTS.values()),
        ),
    )


@contextmanager
def _open(count: int) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as folder:
        path = Path(folder) / "beta.db"
        with closing(_attached(Path(folder) / "alpha.db")) as primary, closing(_attached(path)) as replica:
            position = _replicated(primary, replica, path)
            with closing(sqlite3.connect(path, isolation_level=None)) as reader:
                yield _contestants(path, reader, position, count)


def _contestants(path: Path, reader: sqlite3.Connection, position: str, count: int) -> Contestants:
    found: dict[str, Callable[[], Figures]] = {}

    def measure(face: str, *, has_position: bool, figure: str) -> Callable[[], Figures]:
        def measured() -> Figures:
            timed = _timed_wsgi if face == "wsgi" else _timed_asgi
            bare_us, with_us = timed(path, reader, position if has_position else "", count)
            return {PLAIN: bare_us} if figure == PLAIN else {ADDED: with_us - bare_us}

        return measured

    for face, subject in BARE.items():
        found[subject] = measure(face, has_position=False, figure=PLAIN)
    for (face, has_position), subject in SUBJECTS.items():
        found[subject] = measure(face, has_position=has_position, figure=ADDED)
    return found


def _attached(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, name TEXT UNIQUE, views INTEGER NOT NULL)")
    own = Site(path.stem.encode().hex().ljust(32, "0"))
    attach(connection, [TableChoice(name="pages")], cluster="bench", new_site=lambda: own, one_writer=True)
    return connection


def _replicated(primary: sqlite3.Connection, replica: sqlite3.Connection, path: Path) -> str:
    """The rows come from the one to the other; a position that the replica, whose file this is, has reached."""
    now_ms = int(time.time() * 1000)
    epochs.end(replica, "written elsewhere", now_ms=now_ms)
    made = epochs.begin(primary, epoch_site(1, "0" * 19), now_ms=now_ms)
    primary.executemany("INSERT INTO pages (name, views) VALUES (?, ?)", [(f"page {n}", n) for n in range(1_000)])
    folded = fold(primary, now_ms=now_ms)
    assert folded is not None
    merge_all(replica, [one.encoded for one in (*made, folded)], now_ms=now_ms)
    says = NodeSays(
        node="beta",
        region="here",
        url="http://127.0.0.1:1",
        primary="alpha",
        good_until_s=0.0,
        key=KEY,
        is_secret=True,
        hold_s=5.0,
        visible_s=5.0,
    )
    NodeFileWriter(path).tell(says, awake_s=boot_clock_s())
    position = FilePosition(path).now()
    assert position is not None
    return token.signed(position, KEY)


def _page(reader: sqlite3.Connection) -> bytes:
    name, views = reader.execute("SELECT name, views FROM pages WHERE id = 500").fetchone()
    return f"{name}: {views}".encode()


def _timed_wsgi(path: Path, reader: sqlite3.Connection, position: str, count: int) -> tuple[float, float]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/pages/500",
        "QUERY_STRING": "",
        "wsgi.url_scheme": "http",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_COOKIE": f"session=1; {POSITION}={position}" if position else "session=1",
    }

    def bare(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        body = _page(reader)
        start_response("200 OK", [("content-type", "text/plain"), ("content-length", str(len(body)))])
        return [body]

    def call(app: Callable[..., Iterable[bytes]]) -> None:
        b"".join(app(dict(environ), _accept))

    wrapped = PrimaryWsgi(bare, database=path)
    return _medians(lambda: call(bare), lambda: call(wrapped), count)


def _timed_asgi(path: Path, reader: sqlite3.Connection, position: str, count: int) -> tuple[float, float]:
    cookie = f"session=1; {POSITION}={position}" if position else "session=1"
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/pages/500",
        "raw_path": b"/pages/500",
        "query_string": b"",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"accept", b"*/*"), (b"cookie", cookie.encode())],
    }

    async def bare(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        body = _page(reader)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    async def sent(message: Any) -> None:
        """To nobody."""

    async def received() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    wrapped = PrimaryAsgi(bare, database=path)
    loop = asyncio.new_event_loop()
    try:
        return _medians(
            lambda: loop.run_until_complete(bare(scope, received, sent)),
            lambda: loop.run_until_complete(wrapped(dict(scope), received, sent)),
            count,
        )
    finally:
        loop.close()


def _accept(status: str, headers: list[tuple[str, str]], *more: object) -> Callable[[bytes], object]:
    return lambda data: None


def _medians(bare: Callable[[], object], wrapped: Callable[[], object], count: int) -> tuple[float, float]:
    """Microseconds of one call of each, in turns."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(max(1, count // PER_TURN)):
        for call, times in zip((bare, wrapped), took, strict=True):
            for _ in range(PER_TURN):
                began_ns = time.perf_counter_ns()
                call()
                times.append((time.perf_counter_ns() - began_ns) / 1000)
    return median(took[0]), median(took[1])
