"""Litestream around real nodes, by the start script: a disk is lost and comes back, alone and in a cluster."""

import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.convergent_nodes import VISITS, Load, Writer, clicks, create, introduce, rows, settle, start
from tests.support.litestream_nodes import LitestreamNode, ended, litestream
from tests.support.s3_server import BUCKET, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

type Make = Callable[..., LitestreamNode]
COUNTS = "SELECT page, count FROM page_counts ORDER BY page"


@pytest.fixture(params=["folder", "bucket"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """A maker of nodes with one LITESTREAM_URL for all."""
    litestream()
    with ExitStack() as stack:
        url, environ = f"file://{tmp_path}/replicas", dict[str, str]()
        if request.param == "bucket":
            server = stack.enter_context(s3_server(tmp_path / "s3"))
            url, environ = f"s3://{BUCKET}/replicas", server.environ

        def made(name: str, **settings: Any) -> LitestreamNode:
            node = LitestreamNode(tmp_path, name, url=url, environ=environ, **settings)
            stack.enter_context(ended(node))
            return node

        yield made


def write(node: LitestreamNode, *statements: str) -> None:
    with closing(sqlite3.connect(node.database, timeout=20, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def asked(node: LitestreamNode, question: str) -> list[Any]:
    with closing(sqlite3.connect(node.database, timeout=20)) as connection:
        return connection.execute(question).fetchall()


def of(node: LitestreamNode, writer: Writer) -> set[str]:
    """What this writer wrote, acknowledged or not."""
    return {click for click in clicks(node) if click.startswith(f"{writer.name}-")}


def site(node: LitestreamNode) -> str:
    return str(node.cluster()["replication"]["site"])


@pytest.mark.parametrize("mode", ["none", "primary"])
def test_written_killed_wiped_restored_and_equal(make: Make, mode: str) -> None:
    node = make("a", replication__mode=mode)
    node.start_and_wait()
    write(node, "CREATE TABLE notes (id INTEGER PRIMARY KEY, body BLOB)")
    for page in ("home", "about", "home"):
        assert node.count_view(page)[0] == 200
    # More than a thousand pages: both SQLite's owner and Litestream checkpoint on the way.
    for _ in range(8):
        write(node, *["INSERT INTO notes (body) VALUES (randomblob(50000))"] * 20)
    notes = "SELECT count(*), sum(length(body)), hex(max(body)) FROM notes"
    written, counted = asked(node, notes), asked(node, COUNTS)
    assert dict(counted) == {"home": 2, "about": 1}
    node.until_replicated(notes, *written)

    node.crash()
    node.lose_disk()
    node.start_and_wait()
    assert asked(node, notes) == written
    assert asked(node, COUNTS) == counted
    assert asked(node, "PRAGMA integrity_check") == [("ok",)]

    assert node.count_view("home")[0] == 200
    node.until_replicated(COUNTS, ("about", 1), ("home", 3))
    node.stop()
    node.lose_disk()
    node.start_and_wait()
    assert dict(asked(node, COUNTS)) == {"home": 3, "about": 1}


def test_only_the_file_is_lost_and_the_older_copy_goes_on_under_a_new_site(make: Make) -> None:
    node = make("a", **VISITS)
    create(node.database)
    node.start_and_wait()
    write(node, "INSERT INTO clicks VALUES ('replicated', 'home')")
    node.until(lambda: asked(node, "SELECT 1 FROM _litecast_sites WHERE head IS NOT NULL") != [])
    node.until_replicated("SELECT id FROM clicks", ("replicated",))
    former = site(node)
    assert node.pid is not None
    node.signal(signal.SIGSTOP)  # Litestream, not the node: what is written now, the copy has not
    write(node, "INSERT INTO clicks VALUES ('lost', 'home')")
    node.crash()
    # The rest of the disk is there, with the nonce of the very run that the copy is of; and no peer that knows better.
    node.database.unlink()
    node.start_and_wait()
    assert clicks(node) == {"replicated"}
    assert site(node) != former


def test_a_lost_node_comes_back_from_its_replica_while_the_others_count(make: Make, tmp_path: Path) -> None:
    nodes = [make(name, **VISITS) for name in "abc"]
    introduce(nodes)
    for node in nodes:
        create(node.database)
    start(*nodes)
    a, b, c = nodes
    with Load(tmp_path, [a, c], reads=False) as load:
        others = [load.writer(a), load.writer(c)]
        first = load.writer(b)
        first.until_counted()
        first.end()
        # What the copy is of has nothing in its log that is not folded: see "What comes back is older".
        a.until(lambda: clicks(a) >= first.acknowledged(), within_s=40)
        b.until_replicated("SELECT count(*) FROM clicks WHERE id LIKE 'b%'", (len(of(b, first)),))
        former = site(b)
        b.signal(signal.SIGSTOP)  # Litestream: from now on its copy of b is an older one, of which b's peers know more
        second = load.writer(b)
        second.until_counted()
        second.end()
        a.until(lambda: clicks(a) >= second.acknowledged(), within_s=40)
        b.crash()
        b.lose_disk()
        for writer in others:
            writer.until_counted()
        b.start_and_wait()
        assert site(b) != former
        assert "copy of a peer's" not in b.log, "it is Litestream's copy that it has"
        load.writer(b).until_counted()
        for writer in others:
            writer.until_counted()
    settle(nodes, within_s=80)
    load.check(nodes)
    b.until_replicated("SELECT * FROM visits ORDER BY 1", *rows(b, "visits"))


def test_a_copied_disk_is_refused_before_anything_is_written_to_the_replica(make: Make) -> None:
    node = make("a")
    node.start_and_wait()
    assert node.count_view("home")[0] == 200
    node.until_replicated(COUNTS, ("home", 1))
    node.stop()
    copy = make("copy", node__name="a")
    shutil.copytree(node.folder / "data", copy.folder / "data")
    node.start_and_wait()
    copy.start()
    assert copy.ended(60) == 1
    (line,) = copy.log.splitlines()
    assert line.startswith("litecast: ")
    assert "was taken over by another node that is called 'a' as well" in line
    assert node.count_view("home")[0] == 200
    node.until_replicated(COUNTS, ("home", 2))
