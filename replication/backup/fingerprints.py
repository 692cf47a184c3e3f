"""A few digits for the rows of each attached table: equal where the rows are, whatever the file looks like."""

import hashlib
import sqlite3

from replication.engine.digesting import attached_tables, digest_inside
from replication.engine.transacting import reading
from replication.engine.values import pack


def fingerprints(connection: sqlite3.Connection) -> dict[str, str]:
    """By table. Reads all rows, some seconds for each million. The connection is in autocommit mode. Raises
    sqlite3.Error."""
    with reading(connection):
        return fingerprints_inside(connection)


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
