"""Total loss, with real nodes under load: what was reported as safe is there again, counted once, equal everywhere."""

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.convergent_nodes import (
    VISITS,
    Load,
    Make,
    clicks,
    cluster_of,
    create,
    kill,
    opened,
    rows,
    settle,
    start,
)
from tests.support.node_process import NodeProcess, free_port, node_processes
from tests.support.s3_server import BUCKET, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def in_the_file(node: NodeProcess) -> tuple[dict[str, int], set[str]] | None:
    """How far each site is in a node's file, and the clicks in it; None while something waits to be folded."""
    with contextlib.closing(opened(node)) as file:
        file.execute("BEGIN")
        for (tid,) in file.execute("SELECT tid FROM _litecast_catalogue").fetchall():
            if file.execute(f"SELECT 1 FROM _litecast_log_{tid} LIMIT 1").fetchone():
                return None
        heads = dict(file.execute("SELECT site, head FROM _litecast_sites WHERE head IS NOT NULL AND tips IS NULL"))
        return heads, {click for (click,) in file.execute("SELECT id FROM clicks")}


def backup(node: NodeProcess) -> Any:
    return node.cluster()["replication"]["backup"]


def reported_safe(node: NodeProcess) -> set[str]:
    """The clicks of some moment, once the node has reported that all of that moment is safe."""
    found: tuple[dict[str, int], set[str]] | None = None

    def is_settled() -> bool:
        nonlocal found
        found = found or in_the_file(node)
        return found is not None

    node.until(is_settled)
    assert found is not None
    heads, there = found

    def is_safe() -> bool:
        sites = backup(node)["sites"]
        return all((sites.get(site, {}).get("restorable") or -1) >= head for site, head in heads.items())

    node.until(is_safe, within_s=40)
    return there


def lose(node: NodeProcess) -> None:
    """Its disk."""
    shutil.rmtree(node.folder / "data")


def litecast(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def exact(node: NodeProcess) -> None:
    counted = {page: count for page, count, _ in rows(node, "visits")}
    with contextlib.closing(opened(node)) as file:
        assert counted == dict(file.execute("SELECT page, count(*) FROM clicks GROUP BY page"))


def drill(make: Make, tmp_path: Path, url: str, **settings: object) -> Sequence[NodeProcess]:
    nodes = cluster_of(make, "abc", backup__url=url, backup__interval_s=0.3, **settings)
    start(*nodes)
    safe: set[str] = set()
    with Load(tmp_path, nodes, reads=False) as load:
        writers = [load.writer(node) for node in nodes]
        for writer in writers:
            writer.until_counted(50)
        for node in nodes:
            safe |= reported_safe(node)
        for node in nodes:
            kill(node)
    assert len(safe) > 100
    for node in nodes:
        lose(node)
    start(*reversed(nodes))
    settle(nodes)
    assert any("the database was restored from the backup" in node.log for node in nodes)
    assert not safe - clicks(nodes[0]), "what was reported as safe is lost"
    exact(nodes[0])
    return nodes


def test_all_nodes_and_all_disks_are_lost_and_come_back_from_a_folder(tmp_path: Path) -> None:
    """By the demo, as somebody runs it; and what it leaves in the folder is restored."""
    played = litecast("demo", "--disaster", "--json", "--backup", f"file://{tmp_path}/bucket")
    assert played.returncode == 0, played.stderr
    told = json.loads(played.stdout)
    assert told["problems"] == []
    assert told["backup"].startswith(f"file://{tmp_path}/bucket/litecast-demo-")
    restored, copied = "the database was restored from the backup", "the database is a copy of a peer's"
    assert any(restored in origin for origin in told["origins"].values())
    assert all(restored in origin or copied in origin for origin in told["origins"].values())
    assert 0 <= told["lost_s"] < 10
    there: dict[str, int] = {}
    for page in told["pages"]:
        assert 0 < page["safe"] <= min(page["counts"].values()) == max(page["counts"].values())
        there[f"views-of-{page['node']}"] = page["counts"]["alpha"]

    url, target = told["backup"], tmp_path / "restored.db"
    done = litecast("restore", "--from", url, str(target), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cluster"] == "litecast-demo"
    with contextlib.closing(sqlite3.connect(target)) as file:
        assert dict(file.execute("SELECT page, count FROM page_counts")) == there
    before = target.read_bytes()
    again = litecast("restore", "--from", url, str(target))
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert target.read_bytes() == before
    listed = litecast("backup", "list", "--from", url, "--json")
    assert len(json.loads(listed.stdout)["snapshots"]) >= 1


def test_the_other_acts_have_no_backup_and_a_disaster_no_report(tmp_path: Path) -> None:
    for given in (["--backup", "file:///nowhere"], ["--disaster", "--html", str(tmp_path / "report.html")]):
        refused = litecast("demo", *given)
        assert refused.returncode == 1
        assert refused.stderr.startswith("litecast: --")
        assert len(refused.stderr.splitlines()) == 1


def test_all_nodes_and_all_disks_are_lost_and_come_back_from_an_s3_server(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/some/folder"
        nodes = drill(make, tmp_path, url, backup__encrypt=True, replication__ack="bucket")
        assert nodes[0].count_view("afterwards")[0] == 200
        reported_safe(nodes[0])
        status = litecast("backup", "status", "--config", str(nodes[0].config_file))
        assert "nothing: all that this node has comes back" in status.stdout, status.stderr
        target = tmp_path / "restored.db"
        refused = litecast("restore", "--from", url, str(target))
        assert "is encrypted: give the cluster's secret" in refused.stderr
        assert not target.exists()
        done = litecast("restore", "--from", url, "--config", str(nodes[0].config_file), str(target))
        assert done.returncode == 0, done.stderr
        with contextlib.closing(sqlite3.connect(target)) as file:  # at once: the view returned when it was there
            assert file.execute("SELECT count FROM page_counts WHERE page = 'afterwards'").fetchall() == [(1,)]


def test_a_node_without_a_database_begins_nothing_while_the_backup_cannot_be_reached(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/some/folder"
        node = make("a", **VISITS, backup__url=url, backup__interval_s=0.3)
        create(node.database)
        start(node)
        assert node.count_view("home")[0] == 200
        reported_safe(node)
        kill(node)
        lose(node)
        endpoint = server.environ["AWS_ENDPOINT_URL_S3"]
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
        node.start()
        node.until(lambda: "whether the backup has one cannot be seen" in node.log)
        assert not node.database.exists()
        assert node.get("/readyz")[0] == 0
        node.signal(signal.SIGTERM)
        assert node.ended(40) == 0
        assert not node.database.exists()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        start(node)
        assert node.count_view("home")[1]["count"] == 2


def test_a_backup_of_another_cluster_and_a_folder_of_something_else_are_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"...")
    node = make("a", **VISITS, backup__url=f"file://{tmp_path}/photos")
    node.start()
    assert node.ended(40) == 1
    assert "holds something else (holiday.jpg)" in node.log
    assert not node.database.exists()

    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "litecast.json").write_text('{"litecast backup": 1, "cluster": "theirs"}')
    node.settings["backup__url"] = f"file://{tmp_path}/theirs"
    node.start()
    assert node.ended(40) == 1
    assert "is the backup of cluster 'theirs', and this is 'litecast'" in node.log


def test_a_restore_into_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = litecast("restore", "--from", f"file://{tmp_path}/bucket", str(tmp_path / "no" / "out.db"))
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert not (tmp_path / "no").exists()
