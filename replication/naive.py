"""The naive replication of the Elixir post, with all its faults: this is what `mode = "naive"` is for.

After each write the application hands the row to `Repo.replicate`, which casts it to every peer that is up: the whole
row with its absolute values, never a difference. On each peer the actor `RepoReplication` inserts or updates it. An
insert of a row that is there, or an update of one that is not, raises, as `insert!` and `update!` do; the actor
crashes, its mailbox is lost, and its supervisor starts it anew. Nothing is kept for a peer that is away, nothing is
asked again, and the last message to arrive wins. `docs/semantics.md` lists the defects; each has a test of its name.

One thing is checked that the original does not: that a message *is* one. What a peer of another version or a bug sends
is counted and dropped here, since only the faults of the scheme itself are to be shown.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cluster.actor import Actor
from cluster.seldom import SeldomLog
from replication.repo import Repo
from replication.rows import Op, Row
from replication.transaction import Transaction

log = logging.getLogger(__name__)

REPO_REPLICATION = "RepoReplication"
OWN_TABLES = "_litecast"
STAMPED_BY_WRITER = "updated_at"


class Peers(Protocol):
    """The live peers and a way to reach them, as `cluster.Node` has."""

    def peers(self) -> Sequence["Named"]:
        """The peers that are up now."""
        ...

    def cast(self, node: str, actor: str, message: object) -> None:
        """Send and forget."""
        ...


class Named(Protocol):
    """Somebody with a name."""

    @property
    def name(self) -> str: ...


def cast_to_peers(node: Peers) -> Callable[[Row, Op], None]:
    """The replicator of naive mode: casts the row, with its absolute values, to every peer that is up now."""

    def replicate(row: Row, op: Op) -> None:
        message = {"op": op.value, "table": row.table, "row": dict(row)}
        for peer in node.peers():
            node.cast(peer.name, REPO_REPLICATION, message)

    return replicate


class RepoReplication(Actor):
    """Applies what peers cast. `dropped` is called for each message that is none."""

    name = REPO_REPLICATION

    def __init__(self, repo: Repo, *, dropped: Callable[[], None] = lambda: None) -> None:
        self._repo = repo
        self._dropped = dropped
        self._seldom = SeldomLog(log, time.monotonic)

    async def handle_cast(self, message: object, sender: str) -> None:
        """Insert or update the row; raises what the Repo raises, which crashes the actor."""
        parsed = _parse(message)
        if parsed is None:
            self._dropped()
            self._seldom.warning("no row", f"dropped a cast from {sender} that is no replication message")
            return
        table, op, row = parsed
        if op is Op.INSERT:
            await self._repo.insert(table, row)
        else:
            await self._repo.transaction(lambda transaction: _update(transaction, table, row))


def _update(transaction: Transaction, table: str, row: Mapping[str, Any]) -> Row:
    # As with Ecto's timestamps, whoever writes stamps: each replica notes its own time (D9).
    changes = {column: value for column, value in row.items() if column != STAMPED_BY_WRITER}
    return transaction.update(table, transaction.key_of(table, row), changes)


def _parse(message: object) -> tuple[str, Op, dict[str, Any]] | None:
    match message:
        case {"op": "insert" | "update" as op, "table": str(table), "row": dict(row)}:
            if table.casefold().startswith(OWN_TABLES) or not all(isinstance(column, str) for column in row):
                return None
            return table, Op(op), row
        case _:
            return None
