"""A convergent cluster of processes under load: nodes, writers that know nothing of it, and what must hold in the end.

The load is counted twice: in a counter, and as a row for each count, in one transaction. So whatever happens, on every
node and in every state that a reader sees, a page's counter is the number of its rows; and in the end every count that
somebody was told of is there."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from replication.engine.values import unpack
from tests.support import sqlite_writer
from tests.support.node_process import NodeProcess

SETTLED_WITHIN_S = 40.0
"""Generous: idle machines take two seconds."""

VISITS: dict[str, Any] = {
    "replication__mode": "convergent",
    "replication.tables.visits__counters": ["count"],
    "replication.tables.clicks__merge": "row",
}
"""Settings of nodes that the load is for."""

TABLES = ("visits", "clicks", "page_counts")

type Make = Callable[..., NodeProcess]


def cluster_of(make: Make, names: str, **settings: Any) -> list[NodeProcess]:
    """Nodes that know each other's addresses, with empty tables for the load. None is started."""
    nodes = [make(name, **VISITS, **settings) for name in names]
    introduce(nodes)
    for node in nodes:
        create(node.database)
    return nodes


def introduce(nodes: Sequence[NodeProcess]) -> None:
    """Each is told the addresses of all."""
    addresses = [str(node.settings.get("bus__advertise", node.bus_address)) for node in nodes]
    for node in nodes:
        node.settings |= {"discovery__method": "static", "discovery__peers": addresses}


def create(database: Path, *more: str) -> None:
    """An ordinary database, with the tables of the load."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript(sqlite_writer.SCHEMA)
        for statement in more:
            connection.execute(statement)


def start(*nodes: NodeProcess) -> None:
    """Starts them together, and waits until each is ready and sees the others."""
    for node in nodes:
        node.start()
    names = {node.name for node in nodes}
    for node in nodes:
        node.until(lambda node=node: node.get("/readyz")[0] == 200, within_s=SETTLED_WITHIN_S)  # type: ignore[misc]
        node.until(lambda node=node: node.peers_up() >= names - {node.name}, within_s=SETTLED_WITHIN_S)  # type: ignore[misc]


def kill(node: NodeProcess) -> None:
    """As a crash would."""
    node.signal(signal.SIGKILL)
    node.ended()


class Writer:
    """A process that counts in a database, by plain `sqlite3`."""

    def __init__(self, database: Path, notes: Path, name: str, *options: str) -> None:
        self.name = name
        self._notes = notes
        notes.touch()
        self._said = notes.with_suffix(".said")
        command = [sys.executable, sqlite_writer.__file__, str(database), str(notes), name, *options]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        """By force: it has no other way."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)

    @property
    def said(self) -> str:
        return self._said.read_text()

    def is_stopped(self) -> bool:
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] in ("T", "t")

    def _noted(self, mark: str) -> list[str]:
        lines = self._notes.read_text().splitlines()
        return [line[2:] for line in lines if line[:1] == mark]

    def acknowledged(self) -> set[str]:
        return set(self._noted("+"))

    def rolled_back(self) -> set[str]:
        return set(self._noted("-"))

    def until_counted(self, more: int = 20, within_s: float = SETTLED_WITHIN_S) -> None:
        """Waits until so many more of its transactions were acknowledged."""
        wanted = len(self.acknowledged()) + more
        deadline = time.monotonic() + within_s
        while len(self.acknowledged()) < wanted:
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, f"{self.name} does not get on: {self.said}"
            time.sleep(0.02)


class Browser(threading.Thread):
    """Counts views of one page over HTTP, on one node after the other, until it is stopped."""

    PAGE = "over-http"

    def __init__(self, nodes: Sequence[NodeProcess]) -> None:
        super().__init__(daemon=True)
        self.acknowledged = 0
        self.unknown = 0
        self._nodes = nodes
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            for node in self._nodes:
                status, _ = node.count_view(self.PAGE)
                self.acknowledged += status == 200
                self.unknown += status != 200 and not (400 <= status < 500 or status == 503)
            self._over.wait(0.005)

    def stop(self) -> None:
        self._over.set()
        self.join(30)


class Reader(threading.Thread):
    """Looks at files, all the time: that each state in them is made of whole transactions."""

    QUESTION = "SELECT (SELECT total(count) FROM visits), (SELECT count(*) FROM clicks)"

    def __init__(self, nodes: Sequence[NodeProcess]) -> None:
        super().__init__(daemon=True)
        self.torn: list[str] = []
        self.looks = 0
        self._nodes = nodes
        self._over = threading.Event()

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            files = [(node.name, stack.enter_context(contextlib.closing(opened(node)))) for node in self._nodes]
            while not self._over.wait(0.02):
                for name, file in files:
                    counted, rows = file.execute(self.QUESTION).fetchone()
                    self.looks += 1
                    if counted != rows:
                        self.torn.append(f"{name}: counters say {counted}, and there are {rows} rows")

    def stop(self) -> None:
        self._over.set()
        self.join(30)


class Load:
    """All that writes and reads while a test goes on. Used as a context; `check` is what must hold at the end."""

    def __init__(self, folder: Path, nodes: Sequence[NodeProcess], *, reads: bool = True) -> None:
        self.writers: list[Writer] = []
        self.browser = Browser(nodes)
        self._folder = folder
        self._reader = Reader(nodes) if reads else None

    def __enter__(self) -> "Load":
        self.browser.start()
        if self._reader is not None:
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def writer(self, node: NodeProcess, *options: str) -> Writer:
        """One more, with a name of its own."""
        name = f"{node.name}{len(self.writers)}"
        pace = () if "--pace" in options else ("--pace", "0.004")
        writer = Writer(node.database, self._folder / f"{name}.notes", name, *pace, *options)
        self.writers.append(writer)
        return writer

    def stop(self) -> None:
        """Ends all writing."""
        self.browser.stop()
        for writer in self.writers:
            writer.end()
        if self._reader is not None:
            self._reader.stop()

    def check(self, nodes: Sequence[NodeProcess]) -> None:
        """Nothing acknowledged is lost, nothing that was rolled back is there, and counters are exact."""
        acknowledged = set[str]().union(*(writer.acknowledged() for writer in self.writers))
        rolled_back = set[str]().union(*(writer.rolled_back() for writer in self.writers))
        assert acknowledged, "nothing was written, so this shows nothing"
        with contextlib.closing(opened(nodes[0])) as file:
            clicks = {click for (click,) in file.execute("SELECT id FROM clicks")}
            by_counter = dict(file.execute("SELECT page, count FROM visits"))
            by_rows = dict(file.execute("SELECT page, count(*) FROM clicks GROUP BY page"))
            (over_http,) = file.execute(
                "SELECT coalesce(sum(count), 0) FROM page_counts WHERE page = ?", (Browser.PAGE,)
            ).fetchone()
        assert not acknowledged - clicks, f"{len(acknowledged - clicks)} acknowledged transactions are lost"
        assert not clicks & rolled_back
        assert by_counter == by_rows
        assert self.browser.acknowledged <= over_http <= self.browser.acknowledged + self.browser.unknown
        if self._reader is not None:
            assert self._reader.looks > 0
            assert self._reader.torn == []


def opened(node: NodeProcess) -> sqlite3.Connection:
    """A connection that only reads."""
    file = sqlite3.connect(
        f"file:{node.database}?mode=ro", uri=True, isolation_level=None, timeout=20, check_same_thread=False
    )
    file.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    return file


def rows(node: NodeProcess, table: str) -> list[Any]:
    """What a table of the node's file holds."""
    with contextlib.closing(opened(node)) as file:
        return file.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def clicks(node: NodeProcess) -> set[str]:
    """What of the load is in the node's file."""
    return {click for click, _ in rows(node, "clicks")}


def _everything(node: NodeProcess, tables: Sequence[str]) -> tuple[Any, ...]:
    """What has to be equal on all nodes: the rows, how far each site is merged, and which branches of closed ones."""
    with contextlib.closing(opened(node)) as file:
        file.execute("BEGIN")
        content = tuple(tuple(file.execute(f"SELECT * FROM {table} ORDER BY 1")) for table in tables)
        heads = file.execute(
            "SELECT site, CASE WHEN tips IS NULL THEN head END, CASE WHEN tips IS NULL THEN hash END, tips"
            " FROM _litecast_sites WHERE head IS NOT NULL OR tips IS NOT NULL ORDER BY site"
        ).fetchall()
        return (*content, [(site, head, found, _tips(tips)) for site, head, found, tips in heads])


def _tips(packed: bytes | None) -> Any:
    """The branches of a closed site. Which run made one is known where it came as a changeset, and compares nothing."""
    return None if packed is None else tuple(sorted((stamp, digest) for stamp, digest, *_ in unpack(packed)))


def _why_not_settled(nodes: Sequence[NodeProcess], tables: Sequence[str]) -> str:
    for node in nodes:
        said = node.cluster()
        if not said:
            return f"{node.name} does not answer"
        if len(node.peers_up()) < len(nodes) - 1:
            return f"{node.name} sees {node.peers_up()}"
        standing = said["replication"]
        if not standing["ready"] or standing["problem"] or standing["waiting"] or any(standing["behind"].values()):
            return f"{node.name} says {standing}"
        with contextlib.closing(opened(node)) as file:
            for (tid,) in file.execute("SELECT tid FROM _litecast_catalogue").fetchall():
                if file.execute(f"SELECT 1 FROM _litecast_log_{tid} LIMIT 1").fetchone():
                    return f"{node.name} has something to fold"
    first = _everything(nodes[0], tables)
    for node in nodes[1:]:
        other = _everything(node, tables)
        for what, one, two in zip((*tables, "heads"), first, other, strict=True):
            if one != two:
                return f"{nodes[0].name} and {node.name} differ in {what}: {_difference(one, two)}"
    return ""


def _difference(one: Sequence[Any], two: Sequence[Any]) -> str:
    here, there = set(one), set(two)
    return f"{sorted(here - there, key=repr)[:5]} and {sorted(there - here, key=repr)[:5]}"


def settle(nodes: Sequence[NodeProcess], *, tables: Sequence[str] = TABLES, within_s: float = SETTLED_WITHIN_S) -> None:
    """Waits until all nodes are well and all files are equal; then the files are whole. Nobody writes any more."""
    deadline = time.monotonic() + within_s
    while why := _why_not_settled(nodes, tables):
        assert time.monotonic() < deadline, "\n".join(
            [why, *(f"--- {node.name}\n{node.log[-6_000:]}" for node in nodes)]
        )
        time.sleep(0.05)
    for node in nodes:
        with contextlib.closing(opened(node)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@contextlib.contextmanager
def under_load(folder: Path, nodes: Sequence[NodeProcess], *, reads: bool = True) -> Iterator[Load]:
    """Writers on each node's file and over HTTP, and readers. Everything is stopped at the end, and then checked."""
    with Load(folder, nodes, reads=reads) as load:
        for node in nodes:
            load.writer(node)
        yield load
    settle(nodes)
    load.check(nodes)
