"""The counter: how often each page was viewed.

It reads and then writes `count + 1`, as the application in Fly's post does, but inside one immediate transaction: no
count is ever lost on this node. Whatever is lost in the cluster is replication's doing.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from app.errors import AppError
from replication.declared import TableDeclaration
from replication.errors import DatabaseError, NotVisibleYet, ReplicationError, RepoClosed
from replication.rows import Op, Row

TABLE = "page_counts"
COUNT_VIEW = "count a view"

# In naive mode every replica stamps its own time: the two times say nothing of drift.
DECLARATION = TableDeclaration(name=TABLE, counters=("count",), drift_ignore=("inserted_at", "updated_at"))
"""How the table is kept if the settings do not say otherwise."""

# The two times are kept by the Repo.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE page_counts (
        page TEXT PRIMARY KEY NOT NULL,
        count INTEGER NOT NULL,
        inserted_at,
        updated_at
    )
    """,
)


class NotCounted(AppError):
    """A view that was not counted, for certain; the text says why."""


class Transaction(Protocol):
    """What the counter does inside a transaction, as `replication.Repo` has it."""

    def get(self, table: str, key: Any, /) -> Row | None: ...
    def insert(self, table: str, values: Mapping[str, Any], /) -> Row: ...
    def update(self, table: str, key: Any, changes: Mapping[str, Any], /) -> Row: ...


class CounterRepo(Protocol):
    """What the counter needs of a `replication.Repo`."""

    async def get(self, table: str, key: Any, /) -> Row | None: ...
    def register(self, name: str, function: Callable[..., Any], /) -> None: ...
    async def call(self, name: str, /, *arguments: Any) -> Any: ...
    def replicate(self, result: Row, op: Op, /) -> Row: ...


class PageCounter:
    """Counts views in the table `page_counts` of one repo."""

    def __init__(self, repo: CounterRepo) -> None:
        self._repo = repo
        repo.register(COUNT_VIEW, _one_more)

    async def count_view(self, page: str) -> Row:
        """Count one view of `page` and cast the row to the peers; the row as it stands after the commit.

        In mode primary it is counted on the node that writes, whichever node is asked.

        Raises `NotCounted` if nothing was counted for certain. After any other error, and after a cancellation, the
        view may have been counted.
        """
        try:
            row, op = await self._repo.call(COUNT_VIEW, page)
        except NotVisibleYet as late:
            row, op = late.result
        except ReplicationError as exc:
            if exc.outcome_unknown:
                raise
            raise NotCounted(_why(exc)) from exc
        found: Row = row
        self._repo.replicate(found, Op(op))
        return found

    async def current(self, page: str) -> int | None:
        """The count of `page` on this node, None if it was never counted here. Raises `ReplicationError`."""
        row = await self._repo.get(TABLE, page)
        return None if row is None else int(row["count"])


def _one_more(tx: Transaction, page: str) -> tuple[Row, str]:
    """Runs in the writer's thread, inside BEGIN IMMEDIATE. The row, and what was done to it."""
    row = tx.get(TABLE, page)
    if row is None:
        return tx.insert(TABLE, {"page": page, "count": 1}), Op.INSERT.value
    return tx.update(TABLE, page, {"count": row["count"] + 1}), Op.UPDATE.value


def _why(exc: ReplicationError) -> str:
    """The error as anybody may read it, without the place of the file that it names to the operator."""
    if isinstance(exc, RepoClosed):
        return "the database is closed; this node is starting or stopping"
    return f"{exc.problem}; {exc.remedy}" if isinstance(exc, DatabaseError) else str(exc)
