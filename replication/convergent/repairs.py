"""What a person wants done with damaged rows, on the engine's connection."""

from collections.abc import Mapping, Sequence

from replication.convergent.store import Done, Store
from replication.engine import fence, repairing
from replication.engine.comparable import NotComparable
from replication.engine.repairing import Restored, Row
from replication.engine.values import Key


def adopt(store: Store, table: str, keys: Sequence[Key]) -> Done:
    """Takes what damaged rows show for writes of now. Raises NotComparable, also where this node may not write now."""
    if fence.fence(store.connection) is not None:  # also who was the primary, and goes on under its epoch's site
        raise NotComparable("this node is a replica: restore its rows, or adopt them on the primary")
    now_ms = store.settings.now_ms()
    return store.done(repairing.adopt(store.connection, table, keys, now_ms=now_ms, expected=store.remembered))


def restore(store: Store, table: str, rows: Mapping[Key, Row | None]) -> tuple[Restored, Done]:
    """Sets damaged rows back to what was written, as far as that is known. Raises NotComparable."""
    now_ms = store.settings.now_ms()
    restored = repairing.restore(store.connection, table, rows, now_ms=now_ms, expected=store.remembered)
    return restored, store.done(restored.folded, changed=True)
