"""What a node says of its own database when nodes are compared: a connection that only reads, in a thread of its own.

Nothing is opened before the first question, so a node that nobody asks pays nothing. A digest is kept as long as
nobody commits: when several ask at the same time, and when one asks for its pieces, the table is read once."""

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from replication.engine import catalogue, state
from replication.engine.comparable import DigestTable
from replication.engine.digesting import digest
from replication.engine.listing import list_rows
from replication.engine.row_values import read_rows
from replication.engine.scanning import Damage, scan
from replication.engine.sites import closed, vector
from replication.measuring.questions import AskDigest, AskRows, AskValues, Look

KEPT_DIGESTS: Final = 4
NONCE_BYTES: Final = 8

type _DigestKey = tuple[object, ...]


class Reader:
    """See the module. Used in one thread, but for `interrupt`; `connect` is called at the first question.

    `clocks`: whether anything folds and merges here. If not, attached tables are compared as all others are: without
    clocks, since what is in the log would wait for ever.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        clocks: bool,
        new_nonce: Callable[[], str] = lambda: os.urandom(NONCE_BYTES).hex(),
    ) -> None:
        self._connect = connect
        self._clocks = clocks
        self._nonce = new_nonce()
        self._opened: sqlite3.Connection | None = None
        self._digests: OrderedDict[_DigestKey, tuple[int, Sequence[object]]] = OrderedDict()

    def look(self) -> list[object]:
        """`["look"]`. Raises sqlite3.Error, as all of these do."""
        connection = self._connection
        mark = f"{self._nonce} {self._data_version()}"
        if not self._clocks or state.read(connection) is None:
            return [Look(mark=mark).plain()]
        # What is merged of a closed site, no stamp says.
        shut = closed(connection)
        stamps = {site: head.stamp for site, head in vector(connection).items() if site not in shut}
        return [Look(mark=mark, vector=stamps, tables=tuple(catalogue.load(connection))).plain()]

    def digest(self, question: AskDigest) -> Sequence[object]:
        """`["digest", ...]`, in pieces."""
        key = _key(question)
        version = self._data_version()  # before it is read: what is committed meanwhile makes it old, not wrong
        known = self._digests.get(key)
        if known is not None and known[0] == version:
            self._digests.move_to_end(key)
            return known[1]
        found = digest(
            self._connection,
            question.tables,
            covered=question.covered,
            buckets_max=question.buckets_max,
            clocks=self._clocks,
        )
        pieces = [piece.plain() for piece in found.pieces()]
        self._digests[key] = version, pieces
        while len(self._digests) > KEPT_DIGESTS:
            self._digests.popitem(last=False)
        return pieces

    def rows(self, question: AskRows) -> list[object]:
        """`["rows", ...]`. Raises NotComparable as well."""
        page = list_rows(
            self._connection,
            question.table,
            buckets=question.buckets,
            numbers=question.numbers,
            after=question.after,
            covered=question.covered,
            clocks=self._clocks,
        )
        return [page.plain()]

    def values(self, question: AskValues) -> list[object]:
        """`["values", ...]`. Raises NotComparable as well."""
        return [read_rows(self._connection, question.table, question.keys, clocks=self._clocks).plain()]

    def attached(self) -> list[str]:
        """The tables of which it is known what they should hold."""
        if not self._clocks or state.read(self._connection) is None:
            return []
        return sorted(catalogue.load(self._connection))

    def scan(self, table: str) -> Damage:
        """What of an attached table is not as it was written. Raises NotComparable as well."""
        return scan(self._connection, table)

    def interrupt(self) -> None:
        """Ends what is being read. May be called from any thread."""
        opened = self._opened
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.interrupt()

    def close(self) -> None:
        """Closes the connection."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened.close()

    def _data_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA main.data_version").fetchone()
        return int(version)

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = self._connect()
        return self._opened


def _key(question: AskDigest) -> _DigestKey:
    tables = tuple(_table_key(table) for table in question.tables)
    return tables, tuple(sorted(question.covered.items())), question.buckets_max


def _table_key(table: DigestTable) -> tuple[Any, ...]:
    return table.name, tuple(table.ignore), tuple(table.counters)
