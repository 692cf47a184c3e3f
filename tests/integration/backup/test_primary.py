"""Mode primary: what several primaries wrote one after the other is restored, and what a former one had for itself is
not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.backup.for_node import backup_for_node, restore_from
from replication.backup.uploading import Backup
from replication.engine.folding import is_due
from replication.engine.sites import vector
from replication.primary.standing import Role
from tests.support.backups import rows_of, trim
from tests.support.buckets import FakeBucket
from tests.support.eventually import eventually
from tests.support.primary_nodes import CLUSTER, Member, PrimaryCluster

USERS = "SELECT id, email, visits FROM users ORDER BY id"


class BackedUp:
    """A cluster whose nodes upload, and hear nothing of each other's uploads."""

    def __init__(self, folder: Path) -> None:
        self.cluster = PrimaryCluster(folder)
        self.bucket = FakeBucket()
        self.backups: dict[str, Backup] = {}

    async def start(self, name: str) -> Member:
        member = await self.cluster.start(name)
        backup = self.backups[name] = backup_for_node(
            member.replication,
            self.bucket,
            cluster=CLUSTER,
            node=name,
            data_dir=self.cluster.folder / name,
            interval_s=0.05,
            snapshot_interval_s=3_600.0,
            retention_s=604_800.0,
        )
        backup.start(member.node)
        return member

    async def stop(self, name: str) -> None:
        backup = self.backups.pop(name)
        await backup.stop()
        await backup.close()
        await self.cluster.stop(name)

    async def until_safe(self, member: Member) -> None:
        """All that was written on it is reported as safe."""
        backup = self.backups[member.node.name]

        def is_safe() -> bool:
            if is_due(member.other):
                return False
            heads, safe = vector(member.other), backup.status().position.stamps
            return bool(heads) and all(safe.get(site, -2) >= head.stamp for site, head in heads.items())

        await eventually(is_safe, 20.0, why=backup.status)

    async def close(self) -> None:
        for backup in self.backups.values():
            await backup.stop()
            await backup.close()
        await self.cluster.close()


@pytest.fixture
async def backed_up(tmp_path: Path) -> AsyncIterator[BackedUp]:
    made = BackedUp(tmp_path)
    yield made
    await made.close()


async def test_a_tail_that_was_uploaded_comes_back_nowhere_and_what_the_next_primary_wrote_does(
    backed_up: BackedUp, tmp_path: Path
) -> None:
    cluster = backed_up.cluster
    a, b, c, d = [await backed_up.start(name) for name in "abcd"]
    await cluster.is_primary(a)
    await b.repo.insert("users", {"email": "before"})
    await cluster.equal()
    for member in (a, b, c, d):
        await backed_up.until_safe(member)
    site = a.replication.view().site
    await backed_up.stop("d")
    for one in (b, c):
        cluster.network.cut(a.node.address, one.node.address)
    a.other.execute("INSERT INTO users (email) VALUES ('tail')")
    a.other.execute("UPDATE users SET email = 'changed' WHERE id = 1")
    await backed_up.until_safe(a)
    tail = a.replication.view().vector[site].stamp
    cluster.stores["a"].is_down = True
    await eventually(lambda: Role.PRIMARY in (b.role, c.role))
    await b.repo.insert("users", {"email": "new"})
    for one in (b, c):
        cluster.network.heal(a.node.address, one.node.address)
    assert await cluster.equal() == [(1, "before", 0), (2, "new", 0)]
    await b.repo.update("users", 1, {"visits": 3})
    rows = await cluster.equal()
    for member in (b, c):
        await backed_up.until_safe(member)
    assert any(site in name and name.endswith(f"{tail:016x}") for name in backed_up.bucket.objects)

    trim(*(cluster.folder / name / "app.db" for name in "abc"))
    d = await backed_up.start("d")
    assert await cluster.equal() == rows
    counts = d.replication.status().counts
    assert (counts["archive_reads"], counts.get("snapshots")) == (1, None)
    assert d.replication.view().vector[site].stamp < tail, "what a had for itself was there to be read"

    restored = await restore_from(backed_up.bucket, tmp_path / "restored.db")
    assert rows_of(tmp_path / "restored.db", USERS) == rows == [(1, "before", 3), (2, "new", 0)]
    assert restored.vector[site].stamp < tail
    assert [left.site for left in restored.left_out] == [site]
    assert "another node had become the primary" in restored.left_out[0].reason
