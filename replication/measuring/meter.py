"""Whether all nodes hold the same, and if not, how far they are apart: who asks them all, and makes a number of it.

Every member that this node knows is asked, in three steps:

1. *Look*: how far each has merged, and which tables are attached. What everybody covers need not be told by any.
2. *Digest*: of all tables, from all nodes at once, each from a moment of its own. Tables in which something cannot be
   told are asked for again, a few times: see `settling`.
3. *Rows*: those of the buckets that differ, by their hashes, if they are few enough; and what some of them hold.

A member that is down or does not answer makes the verdict UNKNOWN, unless the others differ for certain."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from replication.drift import DriftReport, RowDrift, report, unknown
from replication.engine.comparable import DigestTable
from replication.engine.comparing import Comparison
from replication.engine.differing import Differences
from replication.engine.digests import BUCKETS, Digest
from replication.engine.received import Malformed
from replication.measuring.asking import Unanswered, ask
from replication.measuring.fetching import Fetcher
from replication.measuring.looking import Cluster, Looks, from_all, look_at_all
from replication.measuring.mending import REPAIR_DEADLINE_S, ClusterRepair, exchange_all, repair_all
from replication.measuring.questions import AskDigest, Repair
from replication.measuring.settling import Known, known_after, to_look_at_again

PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much may be done for an answer.

    After `deadline_s` nothing more is asked. For `patience_s` tables are looked at again in which something cannot be
    told. Where some node has more than `rows_listed_max` rows in the buckets that differ, it is not counted how many
    do. Of the rows that differ, `rows_shown_max` in each table are fetched.
    """

    deadline_s: float
    patience_s: float
    rows_listed_max: int
    rows_shown_max: int = 0


THOROUGH: Final = Effort(deadline_s=100.0, patience_s=8.0, rows_listed_max=1_000_000)
"""For who asks and waits."""
WITH_ROWS: Final = replace(THOROUGH, rows_shown_max=100)
"""For who wants to see them."""
QUICK: Final = Effort(deadline_s=30.0, patience_s=3.0, rows_listed_max=20_000)
"""For what is measured by itself, again and again."""


class DriftMeter:
    """Compares all members of the cluster. `tables` are those that the settings declare, with what is left out."""

    def __init__(self, node: Cluster, tables: Sequence[DigestTable]) -> None:
        self._node = node
        self._declared = tuple(tables)

    async def look(self, *, timeout_s: float) -> Looks:
        """What all members say at a glance."""
        return await look_at_all(self._node, until_s=asyncio.get_running_loop().time() + timeout_s)

    async def measure(self, effort: Effort) -> DriftReport:
        """What is found now. Never raises for what a member did or did not do."""
        until_s = asyncio.get_running_loop().time() + effort.deadline_s
        looked = await self._look(effort, until_s)
        if not looked.nodes:
            return unknown("no node could be asked", unreachable=looked.lost)
        differences: dict[str, Differences] = {}
        rows: dict[str, list[RowDrift]] = {}
        for name, known in looked.tables.items():
            if not known.comparison.differing:
                differences[name] = Differences(spreads=dict.fromkeys(_counters(name, known), 0))
                continue
            fetcher = Fetcher(self._node, looked.chosen[name], known, looked.looks.covered, until_s=until_s)
            found = await fetcher.differences(listed_max=effort.rows_listed_max, rows_max=effort.rows_shown_max)
            if found is not None:
                differences[name] = found
                rows[name] = await fetcher.shown(list(found.rows))
        comparison = Comparison(
            nodes=looked.nodes, tables={name: known.comparison for name, known in looked.tables.items()}
        )
        return report(comparison, differences=differences, rows=rows, unreachable=looked.lost)

    async def repair(self, how: Repair) -> ClusterRepair:
        """Has every member mend its damaged rows. Never raises for what one did or did not do."""
        return await repair_all(self._node, how, until_s=asyncio.get_running_loop().time() + REPAIR_DEADLINE_S)

    async def exchange(self) -> None:
        """Has every member merge all that its peers have. Never raises for what one did or did not do."""
        await exchange_all(self._node, until_s=asyncio.get_running_loop().time() + REPAIR_DEADLINE_S)

    async def _look(self, effort: Effort, until_s: float) -> "_Looked":
        """Takes digests until all is told that can be, or patience is at an end."""
        loop = asyncio.get_running_loop()
        patient_until_s = loop.time() + effort.patience_s
        pause_s = PAUSE_FIRST_S
        tables: dict[str, Known] = {}
        names: list[str] | None = None
        number = 0
        while True:
            number += 1
            # A node that is slow already now must leave the others their time.
            looks = await look_at_all(self._node, until_s=loop.time() + (until_s - loop.time()) / 3)
            chosen = self._tables(looks)
            wanted = [table for name, table in chosen.items() if names is None or name in names]
            digests, silent = await self._digests(looks, wanted, until_s)
            tables = known_after(tables, digests)
            names = to_look_at_again(tables, looks=number)
            if not names or loop.time() + pause_s > patient_until_s:
                return _Looked(
                    looks=looks,
                    chosen=chosen,
                    tables=tables,
                    nodes=frozenset(digests),
                    lost={**looks.lost, **silent},
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def _digests(
        self, looks: Looks, tables: Sequence[DigestTable], until_s: float
    ) -> tuple[dict[str, Digest], dict[str, str]]:
        question = AskDigest(tables=tuple(tables), covered=looks.covered, buckets_max=BUCKETS)

        async def digest(name: str) -> Digest:
            pieces = await ask(self._node, name, question, Digest.parse, until_s=until_s)
            try:
                return Digest.joined(pieces)
            except Malformed as exc:
                raise Unanswered(str(exc)) from exc

        return await from_all(looks.nodes, digest)

    def _tables(self, looks: Looks) -> dict[str, DigestTable]:
        """What is declared here, and what is attached anywhere. SQLite tells no capitals apart in names."""
        chosen = {table.name.lower(): table for table in self._declared}
        for look in looks.nodes.values():
            for name in look.tables:
                chosen.setdefault(name.lower(), DigestTable(name=name))
        return {table.name: table for table in chosen.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What the digests said. `looks` and `nodes` are of the last time."""

    looks: Looks
    chosen: dict[str, DigestTable]
    tables: dict[str, Known]
    nodes: frozenset[str]
    lost: dict[str, str]


def _counters(name: str, known: Known) -> list[str]:
    """Columns that count on some node, in the order of their names."""
    return sorted(
        {column for one in known.digests.values() if name in one.tables for column in one.tables[name].counters}
    )
