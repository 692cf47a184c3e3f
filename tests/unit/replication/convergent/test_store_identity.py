"""The store takes no state for the one that it left: whatever is done first after a restore notices it."""

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replication.convergent.durability import WalBarrier
from replication.convergent.for_file import connect, new_nonce
from replication.convergent.sidecar import NonceFile
from replication.convergent.state_moves import begin_snapshot, read_range
from replication.convergent.store import Store
from replication.convergent.store_settings import StoreSettings
from replication.declared import TableDeclaration
from replication.engine.identity import StateReplaced
from replication.engine.refusals import AttachRefused
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp

NOW_MS = 1_700_000_000_000
PAGES = "CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL DEFAULT 0)"


def new_site() -> Site:
    return Site(secrets.token_hex(16))


class Opened:
    """A store on a file, and what another program has: a connection."""

    def __init__(self, folder: Path, name: str, *, cluster: str = "stores") -> None:
        self.path = folder / f"{name}.db"
        data_dir = folder / name
        data_dir.mkdir(exist_ok=True)
        self.writer = sqlite3.connect(self.path, isolation_level=None)
        self.now_ms = NOW_MS
        if not self.writer.execute("SELECT 1 FROM sqlite_master WHERE name = 'pages'").fetchone():
            self.writer.execute(PAGES)
        settings = StoreSettings(
            cluster=cluster,
            now_ms=lambda: self.now_ms,
            new_site=new_site,
            barrier=WalBarrier(self.path),
            declared=(TableDeclaration(name="pages", counters=("count",)),),
            sidecar=NonceFile(data_dir),
            new_nonce=new_nonce,
        )
        self.store = Store(lambda: connect(self.path), settings)

    def written(self, page: str) -> bytes:
        """What the store makes of one more row."""
        self.now_ms += 1
        self.writer.execute("INSERT INTO pages (page, count) VALUES (?, 1)", (page,))
        done = self.store.fold_news()
        assert done is not None
        (made,) = done.made
        return made

    def close(self) -> None:
        self.store.close()
        self.writer.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    made: list[Opened] = []

    def make(name: str, *, cluster: str = "stores") -> Opened:
        made.append(Opened(tmp_path, name, cluster=cluster))
        return made[-1]

    yield make
    for one in made:
        one.close()


THING = Site("a" * 32)

AFTER_A_RESTORE: dict[str, Callable[[Store, bytes], object]] = {
    "fold": lambda store, _: store.fold_news(),
    "merge": lambda store, changeset: store.merge([changeset]),
    "begin a snapshot": lambda store, _: begin_snapshot(store),
    "read a range": lambda store, _: read_range(store, "pages", None, max_rows=10, max_bytes=1000),
    "copy": lambda store, _: store.begin_copy(),
    "close a site": lambda store, _: store.close_site(THING),
    "unite tips": lambda store, _: store.unite_tips({THING: frozenset({Head(stamp=Stamp(1), digest=bytes(16))})}),
    "adopt a new site": lambda store, _: store.adopt_new_site(),
}


@pytest.mark.parametrize("what", AFTER_A_RESTORE)
def test_whatever_comes_first_after_a_restore_notices_it(
    opened: Callable[..., Opened], tmp_path: Path, what: str
) -> None:
    here, peer = opened("here"), opened("peer")
    here.store.open()
    peer.store.open()
    changeset = peer.written("of the peer")
    here.written("one")
    with contextlib.closing(sqlite3.connect(tmp_path / "older")) as older:
        here.writer.backup(older)
        here.written("two")
        older.backup(here.writer)
    with pytest.raises(StateReplaced):
        AFTER_A_RESTORE[what](here.store, changeset)
    assert here.writer.execute("SELECT page FROM pages").fetchall() == [("one",)], "nothing was changed"
    before = here.store.begin_again()
    assert here.store.begin_again().site != before.site


def test_a_database_of_another_cluster_is_refused_and_left_as_it_is(opened: Callable[..., Opened]) -> None:
    here = opened("here")
    here.store.open()
    here.written("one")
    here.store.close()
    before = list(here.writer.iterdump())
    with pytest.raises(AttachRefused, match="belongs to cluster stores, not to another"):
        opened("here", cluster="another").store.open()
    assert list(here.writer.iterdump()) == before
