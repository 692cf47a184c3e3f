"""State instead of changesets, on the engine's connection: reading some of this node's for a peer, merging a peer's."""

from replication.convergent.store import Done, Store
from replication.engine import snapshots
from replication.engine.snapshots import SnapshotStart
from replication.engine.values import Key


def begin_snapshot(store: Store) -> Done:
    """Where a snapshot begins that a peer takes from now on. All that it says is durable."""
    store.sync()
    return store.done(start=snapshots.begin(store.connection, expected=store.remembered))


def read_range(store: Store, table: str, after: Key | None, *, max_rows: int, max_bytes: int) -> Done:
    """Some of the state of a table, for a peer. Raises NoSuchTable."""
    found = snapshots.read_range(
        store.connection,
        table,
        after=after,
        max_rows=max_rows,
        max_bytes=max_bytes,
        now_ms=store.settings.now_ms(),
        expected=store.remembered,
    )
    return store.done(found.folded, range_=found)


def merge_range(store: Store, encoded: bytes, start: SnapshotStart, *, authority: bool) -> Done:
    """Merges some of a peer's state. Raises ChangesetError, with nothing changed, if it is none."""
    settings = store.settings
    merged = snapshots.merge_range(
        store.connection,
        encoded,
        start,
        now_ms=settings.now_ms(),
        clock_bound_ms=settings.clock_bound_ms,
        forgets_before=store.forgets_before(),
        authority=authority,
        expected=store.remembered,
    )
    return store.done(merged.folded, changed=True, fold_due=bool(merged.again), range_rows=merged.rows)


def finish_snapshot(store: Store, start: SnapshotStart) -> Done:
    """All ranges are merged: the heads move."""
    settings = store.settings
    snapshots.finish(
        store.connection,
        start,
        now_ms=settings.now_ms(),
        clock_bound_ms=settings.clock_bound_ms,
        expected=store.remembered,
    )
    return store.done(tell=True)
