"""Deletes that are told again, where others may have forgotten them.

A tombstone is trimmed when all members have merged the delete. Who comes later with an insert that knows nothing of it,
because its database was put back to an older state, or because it has rows of its own from before it joined, meets
nodes that still have the tombstone, which refuse the insert, and nodes that have not, which take the row for a new one.

So whoever refuses an insert for an old tombstone deletes the row again, in a changeset of its own: where the row was
taken, it goes. Where all have forgotten the delete, the row is there on all: no journal has a delete any longer than
its node has the tombstone (`trimming`), so that whoever could still tell of it refuses. Old is what somebody may have
trimmed by now; younger tombstones are everywhere, and refuse everywhere.

To be told again a key is logged, as by a trigger; the next fold does it. It costs a delete for each node that has the
tombstone, and changes nothing where the row is deleted anyway."""

from collections.abc import Sequence

from replication.engine.capture import LogKind
from replication.engine.entries import Entry
from replication.engine.stamps import Stamp
from replication.engine.statements import Statement, holes
from replication.engine.table import Table
from replication.engine.values import Key


def is_refused(entry: Entry | None, life: int, *, forgets_before: Stamp) -> bool:
    """Whether an insert that begins `life` is refused here for a tombstone that others may have trimmed."""
    return entry is not None and not entry.alive and entry.life > life and entry.born.stamp < forgets_before


def tell_again(table: Table, keys: Sequence[Key]) -> None:
    """Logs keys whose delete the next fold tells again. In the merging transaction."""
    if keys:
        columns = ", ".join(("kind", *table.spec.key_names))
        put = Statement(f"INSERT INTO main.{table.spec.log} ({columns}) VALUES ({holes(1 + len(table.spec.key))})")
        put.run_many(table.connection, [(int(LogKind.AGAIN), *key) for key in keys])


def told_again(table: Table) -> set[Key]:
    """The keys that are logged so."""
    return set(table.logged(LogKind.AGAIN))
