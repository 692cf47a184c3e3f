"""Knows every acknowledged operation, and says what is wrong with a database: at any moment, and in the end.

At any moment, on any machine:
- a page's counter is the sum of the deltas of the ops that are there, and of what the page began with;
- a note's low is not above its high.

In the end, when everything has been delivered, on all machines:
- rows, and all that merging knows of them, are equal, and as the reference computes them from all changesets;
- every op that was acknowledged is there, but for those that were lost with the only machine that had them;
- nothing is shown that an op which is there wrote over; nothing is gone that none of them deleted;
- nothing is held, nothing waits, and the databases are sound."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

from replication.engine.changesets import Changeset
from replication.engine.decoding import decode
from replication.engine.entries import decode_entry
from replication.engine.session import open_session
from replication.engine.sites import Head, closed, seen, vector
from replication.engine.stamps import Dot, Site, first_after
from replication.engine.values import Key, Value, fetch, pack
from replication.simulation.application import DECLARED, OF_MANY, Cell, Op, hidden, present
from replication.simulation.reference import differences, reference
from replication.tables import quoted

TABLES = tuple(table.name for table in DECLARED)


class Oracle:
    """See the module."""

    def __init__(self, *, trims: bool = False) -> None:
        """`trims`: tombstones are trimmed, by each machine when it may."""
        self._trims = trims
        self.ops: dict[str, Op] = {}
        """By name; those in doubt, too."""
        self._together: dict[str, int] = {}
        """How many ops a transaction of many has, by what their names have in common."""
        self.may_be_lost: set[str] = set()
        """Ops that nobody had any more at some moment, but for messages on their way."""
        self.may_be_held: set[str] = set()
        """Ops from before all disks were lost: where their rows came back as held ones, no origin will migrate them."""
        self.began_with: dict[str, set[int]] = {}
        """What a page's counter was before anything was attached, on some machine."""
        self.stamped_again: set[Cell] = set()
        """What was pending in a copy that was used: it may count twice, and win over what was written since."""
        self.was_restored = False
        """A copy of a database was used: a closed site may be a forked one, whose branches are not added."""
        self.may_miss_beginnings = False
        """A machine's database is gone, perhaps with what only it began with."""

    # --- what happens ---

    def begins_with(self, connection: sqlite3.Connection) -> None:
        """A machine's database, before anything is attached."""
        for page, count in connection.execute("SELECT page, n FROM pages").fetchall():
            self.began_with.setdefault(page, set()).add(count)

    def acknowledged(self, op: Op) -> None:
        """A transaction was committed, and whoever wrote it knows."""
        self.ops[op.name] = op

    def together(self, ops: Sequence[Op]) -> None:
        """These are one transaction: whoever sees one of them sees all."""
        self._together[_of_many(ops[0].name)] = len(ops)

    def in_doubt(self, op: Op) -> None:
        """A transaction was committed as the power went: it may be there, and nobody knows."""
        self.ops[op.name] = op
        self.may_be_lost.add(op.name)

    def loses(self, before: set[str], after: set[str], others: Iterable[sqlite3.Connection]) -> int:
        """A machine's ops are these now, and were those. Gives how many nobody has any more."""
        gone = before - after
        for other in others:
            if not gone:
                break
            gone -= present(other)
        self.may_be_lost |= gone
        return len(gone)

    def pending(self, connection: sqlite3.Connection) -> set[Cell]:
        """What a database's log holds: whoever uses a copy of it stamps that again, as if it were written then. So it
        is with a table that was rebuilt and has no triggers yet: the log does not say what was written there."""
        found: set[Cell] = set()
        triggers = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")}
        for tid, name in connection.execute("SELECT tid, name FROM _litecast_catalogue").fetchall():
            found |= {(name, key) for (key,) in connection.execute(f"SELECT DISTINCT k0 FROM _litecast_log_{tid}")}
            if f"_litecast_{tid}_insert" not in triggers:
                found |= {(name, key) for (key,) in connection.execute(f"SELECT k0 FROM _litecast_clock_{tid}")}
                key = {"pages": "page", "ops": "op", "notes": "id"}[name]
                found |= {(name, one) for (one,) in connection.execute(f"SELECT {key} FROM {name}")}
        return found

    # --- at any moment ---

    def observe(self, connection: sqlite3.Connection, *, may_fork: bool = False) -> list[str]:
        """What is wrong with a database as a reader sees it. `may_fork`: counts need not be exact, perhaps.

        Nor need they where somebody's state is merged in part: such a node says that it is not ready. Nor where a site
        is closed: of what was stamped again counts may come before rows that others had merged already."""
        wrong = [
            f"note {key} has low {low} above high {high}"
            for key, low, high in connection.execute("SELECT id, low, high FROM notes WHERE low > high")
        ]
        if may_fork or closed(connection) or seen(connection) or hidden(connection):
            return wrong
        many = Counter(_of_many(op) for (op,) in connection.execute("SELECT op FROM ops") if OF_MANY in op)
        wrong += [
            f"{count} ops of {self._together.get(name, 0)} are seen of {name}"
            for name, count in many.items()
            if count != self._together.get(name)
        ]
        rows = connection.execute(
            "SELECT page, n, (SELECT coalesce(sum(delta), 0) FROM ops WHERE ops.page = pages.page) FROM pages"
        )
        for page, count, deltas in rows:
            if ("pages", page) not in self.stamped_again and count - deltas not in self._beginnings(page):
                wrong.append(f"page {page} shows {count}, and its ops add up to {deltas}")
        return wrong

    def _is_forked(self, connection: sqlite3.Connection) -> bool:
        return self.was_restored and bool(closed(connection))

    def _beginnings(self, page: str) -> set[int]:
        return {0, *self.began_with.get(page, ())}

    # --- in the end ---

    def check(self, connections: Sequence[sqlite3.Connection]) -> list[str]:
        """What is wrong with the databases that were to be equal."""
        first, *others = connections
        tombstones = not self._trims
        held = self._held_for_good(connections)
        wrong = [problem for connection in connections for problem in self._unsound(connection, held)]
        rows, known = rows_of(first), state_of(first, tombstones=tombstones)
        for number, other in enumerate(others, 1):
            theirs = rows_of(other)
            if theirs != rows:
                wrong.append(f"rows of 0 and {number} differ: {differences(rows, theirs)[:4]}")
            elif (state := state_of(other, tombstones=tombstones)) != known:
                wrong.append(f"entries of 0 and {number} differ: {_unlike(known, state)}")
        if not wrong:
            wrong += [*self._against_reference(rows, connections, held), *self._against_ops(first)]
        return wrong

    def _held_for_good(self, connections: Sequence[sqlite3.Connection]) -> set[str]:
        """Ops whose machine lost them, or was lost, before it migrated, and that came to all others when these had:
        nobody has a value for the new column, and all hold the row."""
        return set[str].intersection(*map(hidden, connections)) & (self.may_be_lost | self.may_be_held)

    def _unsound(self, connection: sqlite3.Connection, held_for_good: set[str]) -> list[str]:
        wrong = self.observe(connection)
        (check,) = connection.execute("PRAGMA integrity_check").fetchone()
        if check != "ok":
            wrong.append(f"integrity_check: {check}")
        rows = connection.execute("SELECT key, * FROM _litecast_held").fetchall()
        allowed = {pack((op,)) for op in held_for_good}
        held = [row for key, *row in rows if key not in allowed]
        held += connection.execute("SELECT * FROM _litecast_held_tables").fetchall()
        if held:
            wrong.append(f"held for ever: {held[:3]}")
        return wrong

    def _against_reference(
        self,
        rows: dict[str, dict[Key, dict[str, Value]]],
        connections: Sequence[sqlite3.Connection],
        held_for_good: set[str],
    ) -> list[str]:
        changesets = {
            encoded: decode(encoded)
            for connection in connections
            for (encoded,) in connection.execute("SELECT bytes FROM _litecast_journal")
        }
        if closed(connections[0]) or not _are_whole(changesets.values(), vector(connections[0])):
            return []
        expected = reference(changesets.values())
        for op in held_for_good:
            expected["ops"].pop((op,), None)
        wrong = differences(expected, rows)
        return [f"not as the reference has it: {wrong[:4]}"] if wrong else []

    def check_restored(self, restored: sqlite3.Connection, changesets: Iterable[bytes]) -> list[str]:
        """What is wrong with a database that came back from a backup. `changesets`: all that are known, and more than
        it has, perhaps. One with rows that are held, or that has not migrated as others have, shows less."""
        heads = vector(restored)
        decoded = [one for one in map(decode, changesets) if one.site in heads and one.upto <= heads[one.site].stamp]
        if closed(restored) or hidden(restored) or not _are_whole(decoded, heads):
            return []
        rows = rows_of(restored)
        columns = {table: {name for row in found.values() for name in row} for table, found in rows.items()}
        expected = {
            table: {key: _only(row, columns.get(table, set())) for key, row in found.items()}
            for table, found in reference(decoded).items()
        }
        wrong = differences(expected, rows)
        return [f"not as the reference has it: {wrong[:4]}"] if wrong else []

    def _against_ops(self, connection: sqlite3.Connection) -> list[str]:
        wrong: list[str] = []
        there = {op for op in present(connection) if not op.startswith("base")}
        if lost := self.ops.keys() - self.may_be_lost - there:
            wrong.append(f"acknowledged, and lost: {sorted(lost)}")
        if unknown := there - self.ops.keys():
            wrong.append(f"never acknowledged, and there: {sorted(unknown)}")
        if not self._is_forked(connection):
            for page, n, deltas in connection.execute(
                "SELECT page, n, (SELECT coalesce(sum(delta), 0) FROM ops WHERE ops.page = pages.page) FROM pages"
            ):
                deltas += sum(self.ops[op].delta for op in hidden(connection) if self.ops[op].page == page)
                began = self._beginnings(page) if self.may_miss_beginnings else {max(self._beginnings(page))}
                if ("pages", page) not in self.stamped_again and n - deltas not in began:
                    wrong.append(f"page {page} shows {n} in the end, and its ops add up to {deltas}, from {began}")
        wrong += self._written_over(connection, there)
        return wrong

    def _written_over(self, connection: sqlite3.Connection, there: set[str]) -> list[str]:
        shown: dict[Cell, str | None] = {
            ("pages", page): title for page, title in connection.execute("SELECT page, title FROM pages")
        }
        shown |= {("notes", key): by for key, by in connection.execute("SELECT id, by FROM notes")}
        wrong: list[str] = []
        deleted: set[Cell] = set()
        written: set[Cell] = set()
        for name in sorted(there):
            op = self.ops[name]
            deleted |= {*op.deleted}
            for cell, saw in op.wrote:
                written.add(cell)
                if cell not in self.stamped_again and saw is not None and shown.get(cell) == saw:
                    wrong.append(f"{cell} shows {saw}, which {name} has written over")
        gone = [cell for cell in sorted(written - deleted - self.stamped_again) if cell not in shown]
        return wrong + [f"{cell} is gone, and nobody deleted it" for cell in gone]


def rows_of(connection: sqlite3.Connection) -> dict[str, dict[Key, dict[str, Value]]]:
    """The rows of each table by key, as the reference has them."""
    found: dict[str, dict[Key, dict[str, Value]]] = {}
    for table in TABLES:
        columns = connection.execute("SELECT name, pk FROM pragma_table_xinfo(?)", (table,)).fetchall()
        keys = [name for name, pk in columns if pk]
        cells = [name for name, pk in columns if not pk]
        for row in fetch(connection, f"SELECT {', '.join(map(quoted, [*keys, *cells]))} FROM {quoted(table)}"):
            found.setdefault(table, {})[row[: len(keys)]] = dict(zip(cells, row[len(keys) :], strict=True))
    return found


def state_of(connection: sqlite3.Connection, *, tombstones: bool = True) -> dict[str, list[tuple[object, ...]]]:
    """All that merging knows of the rows, with sites and columns by name: equal where two databases are. Tombstones
    are that only until somebody trims some."""
    session = open_session(connection)
    site_of = session.sites.site
    found: dict[str, list[tuple[object, ...]]] = {}
    for name, table in session.tables.items():
        keys, columns = table.keys, table.columns.names
        entries = fetch(connection, f"SELECT life, stamp, site, cells, {keys} FROM {table.spec.clock}")
        shares = fetch(connection, f"SELECT counter, site, life, value, stamp, {keys} FROM {table.spec.count}")
        rows: list[tuple[object, ...]] = []
        for life, stamp, short, blob, *key in entries:
            if not tombstones and not life & 1:
                continue
            entry = decode_entry(life, Dot(stamp, site_of(short)), blob, names=columns, site_of=site_of)
            rows.append(("entry", key, entry.life, entry.born, sorted(entry.cells.items())))
        for number, short, *rest in shares:
            rows.append(("share", columns[number], site_of(short), *rest))
        found[name] = sorted(rows, key=repr)
    return found


def _unlike(one: dict[str, list[tuple[object, ...]]], other: dict[str, list[tuple[object, ...]]]) -> object:
    return [
        ([row for row in rows if row not in other[name]][:2], [row for row in other[name] if row not in rows][:2])
        for name, rows in one.items()
        if rows != other[name]
    ]


def _are_whole(changesets: Iterable[Changeset], heads: dict[Site, Head]) -> bool:
    """Whether there is a chain of changesets to each head: none was trimmed, and none came as a snapshot."""
    before = {(changeset.site, changeset.upto): changeset.after for changeset in changesets}
    for site, head in heads.items():
        at = head.stamp
        while at != first_after(site):
            if (site, at) not in before:
                return False
            at = before[site, at]
    return True


def _only(row: dict[str, Value], columns: set[str]) -> dict[str, Value]:
    return {name: value for name, value in row.items() if name in columns}


def _of_many(op: str) -> str:
    return op.partition(OF_MANY)[0]
