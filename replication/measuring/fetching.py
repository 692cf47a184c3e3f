"""The rows of the buckets that differ: listed by their hashes on each node, and a few of them as they are."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from replication.drift import RowDrift
from replication.engine.comparable import DigestTable
from replication.engine.comparing import bucket_groups
from replication.engine.differing import Differences, differing
from replication.engine.listings import RowListing
from replication.engine.received import Malformed
from replication.engine.row_values import Row, RowValues
from replication.engine.stamps import Site, Stamp
from replication.engine.values import Key
from replication.measuring.asking import Bus, Unanswered, ask_one
from replication.measuring.looking import from_all
from replication.measuring.questions import AskRows, AskValues
from replication.measuring.settling import Known

GROUP_ROWS: Final = 20_000
"""So many rows of each node are compared at a time."""
TRIES: Final = 3
PAUSE_S: Final = 0.1


class Fetcher:
    """Asks about the rows of one table."""

    def __init__(
        self, bus: Bus, table: DigestTable, known: Known, covered: Mapping[Site, Stamp], *, until_s: float
    ) -> None:
        self._bus = bus
        self._table = table
        self._known = known
        self._covered = covered
        self._until_s = until_s

    async def differences(self, *, listed_max: int, rows_max: int) -> Differences | None:
        """Which rows differ; `rows_max` of them are named. None if there are too many to look at, or a node does not
        answer."""
        name, compared, digests = self._table.name, self._known.comparison, self._known.digests
        tables = [digests[node].tables[name].coarser(compared.buckets) for node in compared.nodes]
        if max(sum(table.rows[bucket] for bucket in compared.differing) for table in tables) > listed_max:
            return None
        found = Differences()
        try:
            for numbers in bucket_groups(compared, digests, name, rows_max=GROUP_ROWS):
                found = found.joined(await self._group(numbers, rows_max), rows_max=rows_max)
        except Unanswered:
            return None
        return found

    async def shown(self, keys: Sequence[Key]) -> list[RowDrift]:
        """What each node has of these rows. Nodes that do not answer are left out."""
        if not keys:
            return []
        nodes = sorted(self._known.comparison.nodes)
        rows, _ = await from_all(
            nodes, lambda node: fetch_values(self._bus, node, self._table, keys, until_s=self._until_s)
        )
        return [RowDrift(key=key, nodes={node: of[key] for node, of in rows.items() if key in of}) for key in keys]

    async def _group(self, numbers: Sequence[int], rows_max: int) -> Differences:
        """The rows of some buckets. What one node is only behind in is looked at a few times."""
        nodes = sorted(self._known.comparison.nodes)
        tried = 0
        while True:
            tried += 1
            listings, silent = await from_all(nodes, lambda node: self._listing(node, numbers))
            for reason in silent.values():
                raise Unanswered(reason)
            found = differing(listings, rows_max=rows_max)
            if not found.untold or tried == TRIES:
                return found
            await asyncio.sleep(PAUSE_S)

    async def _listing(self, node: str, numbers: Sequence[int]) -> RowListing:
        pages: list[RowListing] = []
        while not pages or pages[-1].upto is not None:
            question = AskRows(
                table=self._table,
                buckets=self._known.comparison.buckets,
                numbers=tuple(numbers),
                after=pages[-1].upto if pages else None,
                covered=self._covered,
            )
            pages.append(await ask_one(self._bus, node, question, RowListing.parse, until_s=self._until_s))
        try:
            return RowListing.joined(pages)
        except Malformed as exc:
            raise Unanswered(str(exc)) from exc


async def fetch_values(
    bus: Bus, node: str, table: DigestTable, keys: Sequence[Key], *, until_s: float
) -> dict[Key, Row | None]:
    """What a node has of these rows; None for one that it has not. Raises Unanswered."""
    found: dict[Key, Row | None] = {}
    rest = tuple(keys)
    while rest:
        question = AskValues(table=table, keys=rest)
        page = await ask_one(bus, node, question, RowValues.parse, until_s=until_s)
        if len(page.rest) >= len(rest):
            raise Unanswered("it sent nothing of what was asked for")
        found.update(page.rows)
        rest = page.rest
    return found
