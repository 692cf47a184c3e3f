"""A few digits for the rows of each attached table: equal where the rows are, whatever the file looks like.

Two kinds. A fingerprint is of what the cluster agrees on: what is held is in the place of what is shown instead. So
it is equal on two nodes that are. A row digest is of what lies in the file, and takes less than half the time: it
proves that a file says what it said when it was copied."""

import hashlib
import sqlite3
from typing import Final

import xxhash

from replication.engine.comparable import NotComparable, comparable, session_to_compare
from replication.engine.digesting import BATCH_ROWS, attached_tables, digest_inside
from replication.engine.transacting import reading
from replication.engine.values import fetch_batches, pack, packer
from replication.tables import quoted

HELD: Final = "_litecast_held"
_ROWS: Final = "rows-"
_MASK: Final = 2**128 - 1


def fingerprints(connection: sqlite3.Connection) -> dict[str, str]:
    """By table. Reads all rows, some seconds for each million. The connection is in autocommit mode. Raises
    sqlite3.Error."""
    with reading(connection):
        return fingerprints_inside(connection)


def row_digests(connection: sqlite3.Connection) -> dict[str, str]:
    """By table, those with what is held among them. Reads all rows, a second for each million. The connection is in
    autocommit mode. Raises sqlite3.Error."""
    with reading(connection):
        session = session_to_compare(connection, clocks=True)
        found: dict[str, str] = {}
        for chosen in attached_tables(connection):
            try:
                what = comparable(connection, session, chosen)
            except NotComparable:
                continue
            columns = ", ".join(map(quoted, (*what.key, *what.columns)))
            found[what.name] = _row_digest(connection, f"SELECT {columns} FROM {what.source} WHERE {what.named}")
        if found:
            found[HELD] = _row_digest(connection, f"SELECT * FROM main.{HELD}")
        return found


def is_row_digest(digits: str) -> bool:
    """Which of the two kinds it is. Snapshots of before there were row digests have fingerprints."""
    return digits.startswith(_ROWS)


def _row_digest(connection: sqlite3.Connection, sql: str) -> str:
    """Of all rows, in whatever order: a sum of hashes of 128 bits, each of a whole row with the types of its values."""
    pack_one, count, total = packer().pack, 0, 0
    for rows in fetch_batches(connection, sql, size=BATCH_ROWS):
        count += len(rows)
        total += sum(map(xxhash.xxh3_128_intdigest, map(pack_one, rows)))
    return f"{_ROWS}{count}-{total & _MASK:032x}"


def fingerprints_inside(connection: sqlite3.Connection) -> dict[str, str]:
    """`fingerprints`, in the read transaction at work."""
    taken = digest_inside(connection, attached_tables(connection), buckets_max=1)
    return {
        name: hashlib.blake2b(
            pack((found.rows[0], found.keys[0], tuple((one, sums[0]) for one, sums in sorted(found.columns.items())))),
            digest_size=16,
        ).hexdigest()
        for name, found in sorted(taken.tables.items())
    }
