"""Copies, restores and forks: nothing is lost, nothing is counted twice where that can be known, and all end equal."""

import asyncio
import contextlib
import errno
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.convergent.for_file import connect
from replication.convergent.opened import BegunAgain
from replication.convergent.sidecar import NONCE_FILE
from replication.convergent.store import Done, Store
from replication.engine.detaching import detach
from replication.engine.stamps import Site
from tests.support.convergent import ConvergentCluster, Member, wait_until
from tests.support.eventually import eventually

ONE_MORE = "INSERT INTO pages VALUES ('home', 'Home', 1) ON CONFLICT DO UPDATE SET count = count + 1"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()


def backup(member: Member, to: Path) -> None:
    """As any tool would make one, of what is folded."""
    with contextlib.closing(sqlite3.connect(to)) as copy:
        member.writer.backup(copy)


def restore(path: Path, to: sqlite3.Connection) -> None:
    with contextlib.closing(sqlite3.connect(path)) as copy:
        copy.backup(to)


async def count(cluster: ConvergentCluster) -> int:
    ((_, _, found),) = await cluster.equal()
    return int(found)


async def written(cluster: ConvergentCluster, member: Member, times: int = 1) -> int:
    for _ in range(times):
        member.writer.execute(ONE_MORE)
    return await count(cluster)


async def test_a_node_whose_file_was_restored_while_it_was_down_loses_nothing_that_was_sent(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    a, _, _ = await cluster.trio()
    assert await written(cluster, a, 3) == 3
    backup(a, tmp_path / "older")
    site = a.replication.view().site
    assert await written(cluster, a, 4) == 7
    path = a.path
    await cluster.stop("a")
    path.unlink()
    shutil.copyfile(tmp_path / "older", path)
    a = await cluster.start("a")
    assert await count(cluster) == 7
    assert await written(cluster, a) == 8
    assert a.replication.view().site != site


async def test_a_file_that_was_restored_under_a_running_node_is_noticed(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    a, _, _ = await cluster.trio()
    assert await written(cluster, a, 3) == 3
    backup(a, tmp_path / "older")
    assert await written(cluster, a, 4) == 7
    site = a.replication.view().site
    restore(tmp_path / "older", a.writer)
    a.writer.execute(ONE_MORE)
    await eventually(lambda: a.replication.view().site != site)
    assert await count(cluster) == 8


async def test_one_nodes_file_restored_on_another(cluster: ConvergentCluster, tmp_path: Path) -> None:
    a, b, _ = await cluster.trio()
    assert await written(cluster, a, 3) == 3
    assert await written(cluster, b, 2) == 5
    backup(a, tmp_path / "of a")
    path = b.path
    await cluster.stop("b")
    path.unlink()
    shutil.copyfile(tmp_path / "of a", path)
    b = await cluster.start("b")
    assert await written(cluster, b) == 6
    assert b.replication.view().site != a.replication.view().site


async def test_a_copy_run_beside_the_original_is_another_node(cluster: ConvergentCluster) -> None:
    a, _, _ = await cluster.trio()
    assert await written(cluster, a, 3) == 3
    backup(a, cluster.folder / "d.db")
    d = await cluster.start("d")
    for member in (a, d):
        member.writer.execute(ONE_MORE)
    assert await count(cluster) == 5


async def test_a_restore_that_left_the_nonce_is_known_by_what_the_peers_have(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    """The whole machine was put back: the file, and what lies in the data directory."""
    a, _, _ = await cluster.trio()
    assert await written(cluster, a, 3) == 3
    path = a.path
    await cluster.stop("a")
    shutil.copyfile(path, tmp_path / "older")
    shutil.copytree(cluster.folder / "a", tmp_path / "older data")
    a = await cluster.start("a")
    assert await written(cluster, a, 4) == 7
    site = a.replication.view().site
    await cluster.stop("a")
    path.unlink()
    shutil.copyfile(tmp_path / "older", path)
    shutil.copytree(tmp_path / "older data", cluster.folder / "a", dirs_exist_ok=True)
    a = await cluster.start("a")
    assert await written(cluster, a) == 8
    assert a.replication.view().site != site


async def test_tables_that_are_detached_under_a_running_node_are_attached_again(cluster: ConvergentCluster) -> None:
    a, _, _ = await cluster.trio()
    assert await written(cluster, a, 3) == 3
    with contextlib.closing(connect(a.path)) as other:
        detach(other)
    a.writer.execute("UPDATE pages SET title = 'Detached'")
    await eventually(lambda: a.replication.status().counts.get("new_sites"))
    await asyncio.sleep(0)
    rows = await cluster.equal()
    assert len(rows) == 1


async def test_another_clusters_file_under_a_running_node_stops_its_work_and_not_the_node(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    a, b = await cluster.start("a"), await cluster.start("b")
    assert await written(cluster, a, 3) == 3
    backup(a, tmp_path / "own")
    with contextlib.closing(connect(tmp_path / "others")) as others:
        a.writer.backup(others)
        others.execute("UPDATE _litecast_state SET cluster = 'another', nonce = randomblob(16)")
    restore(tmp_path / "others", a.writer)
    a.writer.execute(ONE_MORE)
    await eventually(lambda: "belongs to cluster another" in a.replication.status().problem)
    b.writer.execute(ONE_MORE)
    assert b.rows() == [("home", "Home", 4)], "and nothing of it came here"
    restore(tmp_path / "own", a.writer)
    a.writer.execute(ONE_MORE)
    assert await count(cluster) == 5
    await eventually(lambda: not a.replication.status().problem)


async def test_a_disk_that_fails_just_when_a_new_site_is_taken_costs_one_site_and_is_forgotten(
    cluster: ConvergentCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _, _ = await cluster.trio()
    assert await written(cluster, a, 3) == 3
    backup(a, tmp_path / "older")
    assert await written(cluster, a, 4) == 7
    path = a.path
    await cluster.stop("a")
    nonce = (tmp_path / "a" / NONCE_FILE).read_bytes()
    with contextlib.closing(sqlite3.connect(tmp_path / "older")) as older:
        older.execute("UPDATE _litecast_state SET nonce = ?", (nonce,))  # so that only its peers can tell
        older.commit()
    path.unlink()
    shutil.copyfile(tmp_path / "older", path)
    adopt, tries = Store.adopt_new_site, list[Site]()

    def fails_at_first(store: Store) -> Done:
        done = adopt(store)
        tries.append(done.view.site)
        if len(tries) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return done

    monkeypatch.setattr(Store, "adopt_new_site", fails_at_first)
    a = await cluster.start("a")
    assert await count(cluster) == 7
    await wait_until(lambda: a.replication.status().ready, [a])
    assert not a.replication.status().problem
    assert tries == [a.replication.view().site]


async def test_what_rests_on_the_state_that_was_is_not_done_with_the_one_that_is_there_now(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    a, _, _ = await cluster.trio()
    assert await written(cluster, a, 3) == 3
    backup(a, tmp_path / "older")
    assert await written(cluster, a, 4) == 7
    site = a.replication.view().site
    with contextlib.closing(sqlite3.connect(tmp_path / "older")) as older:
        older.backup(a.writer)
    done: list[Site] = []

    def rests_on_it(store: Store) -> Done:
        done.append(site)
        return store.close_site(site)

    with pytest.raises(BegunAgain):
        await a.replication.work(rests_on_it)
    assert done == [site]  # tried, refused, and not tried again with a state of which nothing was known
    assert await count(cluster) == 7
    assert site not in a.replication.view().closed
