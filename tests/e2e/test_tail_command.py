"""`litecast tail` with real processes: what a killed primary had not sent, and a program wrote to its file since."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.convergent_nodes import introduce, kill, opened
from tests.support.node_process import NodeProcess, node_processes
from tests.support.primary_processes import primary_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WITHIN_S = 60.0
SECRET = "a secret of this test, of enough characters"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[NodeProcess]]:
    (tmp_path / "lease").mkdir()
    settings = {
        "bus__secret": SECRET,
        "cluster__size": 3,
        "lease__provider": "object_store",
        "lease__url": f"file://{tmp_path / 'lease'}",
        "lease__ttl_s": 2.0,
        "replication__mode": "primary",
    }
    with node_processes(tmp_path) as make:
        found = [make(name, **settings) for name in "abc"]
        introduce(found)
        for node in found:
            node.start()
        yield found


def tail(node: NodeProcess, *arguments: str, secret: str = SECRET) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "tail", *arguments, "--url", node.url],
        env={**os.environ, "LITECAST_BUS__SECRET": secret},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def names(node: NodeProcess) -> list[str]:
    listed = tail(node, "list", "--json")
    assert listed.returncode == 0, listed.stderr
    return [one["name"] for one in json.loads(listed.stdout)["tails"]]


def counts(node: NodeProcess) -> dict[str, int]:
    with contextlib.closing(opened(node)) as file:
        return dict(file.execute("SELECT page, count FROM page_counts").fetchall())


def depose(nodes: list[NodeProcess], sql: str) -> NodeProcess:
    """Kills the primary, has a program write to its file, and starts it when another one writes: it has a tail."""
    first = primary_of(nodes)
    kill(first)
    with contextlib.closing(sqlite3.connect(first.database, isolation_level=None)) as program:
        program.execute(sql)
    primary_of([node for node in nodes if node is not first])
    first.start()
    first.until(lambda: first.get("/readyz")[0] == 200 and bool(names(first)), WITHIN_S)
    return first


def test_a_tail_is_listed_shown_applied_and_another_one_refused_and_dropped(nodes: list[NodeProcess]) -> None:
    first = primary_of(nodes)
    assert first.count_view("home")[0] == 200
    for node in nodes:
        node.until(lambda node=node: counts(node) == {"home": 1}, WITHIN_S)  # type: ignore[misc]
    former = depose(nodes, "INSERT INTO page_counts (page, count) VALUES ('late', 5)")
    (name,) = names(former)
    assert counts(former) == {"home": 1}
    listed = tail(former, "list")
    assert listed.stdout.split()[-2:] == ["page_counts", "1"], listed
    shown = tail(former, "show", name)
    assert shown.returncode == 0, shown.stderr
    assert "late" in shown.stdout
    assert "no such row" in shown.stdout
    applied = tail(former, "apply", name)
    assert (applied.returncode, applied.stdout.strip()) == (0, f"{name}: applied, 1 rows."), applied.stderr
    assert names(former) == []
    for node in nodes:
        node.until(lambda node=node: counts(node) == {"home": 1, "late": 5}, WITHIN_S)  # type: ignore[misc]

    former = depose(nodes, "UPDATE page_counts SET count = count + 10, updated_at = 'then' WHERE page = 'home'")
    (name,) = names(former)
    assert primary_of(nodes).count_view("home")[0] == 200
    refused = tail(former, "apply", name)
    assert refused.returncode == 1
    assert "row 'home' of page_counts was written since" in refused.stderr
    assert names(former) == [name]
    assert tail(former, "drop", name).stderr.strip().endswith("add --yes")
    assert "this needs the admin token" in tail(former, "drop", name, "--yes", secret="x" * 40).stderr
    assert names(former) == [name]
    assert tail(former, "drop", name, "--yes").stdout.strip() == f"{name}: dropped."
    assert names(former) == []
    unknown = tail(former, "show", "7-x")
    assert unknown.returncode == 1
    assert "no tail '7-x' is kept here; there is none" in unknown.stderr
    for node in nodes:
        node.until(lambda node=node: counts(node) == {"home": 2, "late": 5}, WITHIN_S)  # type: ignore[misc]
