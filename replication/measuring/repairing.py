"""Mending rows of this node that were changed behind everybody's back: taken for writes, or set back.

Each node knows for itself which of its rows are damaged: they are not what its entries say was written. To *adopt*
them it needs nobody. To *restore* them it needs the values, of which entries have hashes only: counters are added up
from contributions, rows that nobody inserted are deleted, and the rest comes from peers, one after the other, until
one has what was written. Each value is checked against its hash, so a peer that is damaged as well does no harm.

Where rows are as their entries say, and nodes differ all the same (a migration computed other values on each), there is
nothing damaged: nodes *exchange* and merge their whole state, which heals what merging can heal."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from replication.engine import received
from replication.engine.comparable import DigestTable
from replication.engine.digests import TABLES_MAX
from replication.engine.repairing import Restored
from replication.engine.row_values import Row
from replication.engine.scanning import Damage
from replication.engine.values import Key
from replication.measuring.asking import Bus, Unanswered
from replication.measuring.fetching import fetch_values
from replication.measuring.questions import Repair

PASSES_MAX: Final = 1_000
"""So many times ten thousand rows of a table are mended."""
UNSETTLED_TRIES: Final = 20
UNSETTLED_PAUSE_S: Final = 0.25
PEER_TIMEOUT_S: Final = 60.0
_COUNT_MAX: Final = 2**53


class Damaged(Protocol):
    """Finds damage in this node's database."""

    async def tables(self) -> Sequence[str]:
        """The tables that are attached."""
        ...

    async def scan(self, table: str) -> Damage:
        """What is damaged of one."""
        ...


class Menders(Protocol):
    """Changes rows of this node, as `Replication` does."""

    async def adopt(self, table: str, keys: Sequence[Key]) -> None:
        """Takes what rows show for writes of now."""
        ...

    async def restore(self, table: str, rows: Mapping[Key, Row | None]) -> Restored:
        """Sets rows back to what was written, as far as that is known."""
        ...

    async def fetch_state_of(self, peer: str) -> bool:
        """Merges all that a peer has. False if it did not answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRepair:
    """What became of one table's damage. `left`: rows that could not be mended; `why` says for what reason."""

    name: str
    found: int
    left: int = 0
    why: str = ""

    def plain(self) -> dict[str, Any]:
        """As plain values, and as JSON."""
        return {"name": self.name, "found": self.found, "left": self.left, "why": self.why}

    @classmethod
    def parse(cls, value: object) -> "TableRepair":
        """What `plain` gave. Raises Malformed."""
        name, found, left, why = received.fields(value, "name", "found", "left", "why")
        return cls(
            name=received.name(name),
            found=received.whole(found, low=0, high=_COUNT_MAX),
            left=received.whole(left, low=0, high=_COUNT_MAX),
            why=received.text(why, at_most=received.NAME_MAX),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRepair:
    """What became of the damage of one node: the tables in which there was any."""

    tables: tuple[TableRepair, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As plain values, and as JSON."""
        return {"tables": [table.plain() for table in self.tables]}

    @classmethod
    def parse(cls, value: object) -> "NodeRepair":
        """What `plain` gave. Raises Malformed."""
        (tables,) = received.fields(value, "tables")
        return cls(tables=tuple(TableRepair.parse(table) for table in received.listed(tables, at_most=TABLES_MAX)))


class OwnRepair:
    """Mends this node's own rows. `peers` are those that are up."""

    def __init__(self, damaged: Damaged, menders: Menders, bus: Bus, peers: Callable[[], Iterable[str]]) -> None:
        self._damaged = damaged
        self._menders = menders
        self._bus = bus
        self._peers = peers
        self._alone = asyncio.Lock()

    async def exchange(self) -> list[object]:
        """The parts of an answer to `["exchange"]`: the peers whose state is merged here now."""
        async with self._alone:
            return [[peer for peer in self._peers() if await self._menders.fetch_state_of(peer)]]

    async def mend(self, how: Repair) -> list[object]:
        """The parts of an answer to `["repair", how]`. Raises sqlite3.Error, OSError, NotComparable."""
        async with self._alone:  # two at once would count the same rows
            tables = [await self._mend(table, how) for table in await self._damaged.tables()]
        return [NodeRepair(tables=tuple(table for table in tables if table.found or table.why)).plain()]

    async def _mend(self, table: str, how: Repair) -> TableRepair:
        work = _TableWork(table)
        for _ in range(PASSES_MAX):
            damage = await self._settled(table)
            if damage.unsettled:
                work.why = "a large write, or a new schema, was not folded in time; repair again later"
                break
            work.found = max(work.found, damage.count)
            work.left = damage.count
            keys = [row.key for row in damage.rows if row.key not in work.hopeless]
            if not keys:
                break
            if how is Repair.ADOPT:
                await self._menders.adopt(table, keys)
            else:
                await self._restore(work, keys)
        return work.outcome()

    async def _settled(self, table: str) -> Damage:
        """What is damaged, once what was written is folded."""
        for _ in range(UNSETTLED_TRIES - 1):
            damage = await self._damaged.scan(table)
            if not damage.unsettled:
                return damage
            await asyncio.sleep(UNSETTLED_PAUSE_S)
        return await self._damaged.scan(table)

    async def _restore(self, work: "_TableWork", keys: Sequence[Key]) -> None:
        """Sets rows back, first without anybody's help, then with each peer's, until none is left."""
        restored = await self._menders.restore(work.name, dict.fromkeys(keys))
        silent: dict[str, str] = {}
        for peer in self._peers():
            if not restored.unverified:
                break
            try:
                rows = await fetch_values(
                    self._bus,
                    peer,
                    DigestTable(name=work.name),
                    list(restored.unverified),
                    until_s=asyncio.get_running_loop().time() + PEER_TIMEOUT_S,
                )
            except Unanswered as exc:
                silent[peer] = str(exc)
                continue
            # Also those of which the peer knows nothing: what is not verified now is still to be asked for.
            restored = await self._menders.restore(work.name, {key: rows.get(key) for key in restored.unverified})
        if restored.unverified:
            work.hopeless.update(restored.unverified)
            work.why = "no node that answers shows what was written" + "".join(
                f"; {peer} did not answer ({why})" for peer, why in silent.items()
            )


@dataclass(slots=True)
class _TableWork:
    name: str
    found: int = 0
    left: int = 0
    why: str = ""
    hopeless: set[Key] = field(default_factory=set[Key])
    """Rows that were tried in vain."""

    def outcome(self) -> TableRepair:
        return TableRepair(
            name=self.name, found=self.found, left=self.left, why=self.why if self.left or not self.found else ""
        )
