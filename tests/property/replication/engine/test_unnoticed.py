"""An application ends with the same database whether its tables are attached or not: the same results, errors and rows.

It is compared with one whose tables have triggers that do nothing. That a table has triggers at all is noticed: SQLite
then updates in two passes, and an UPDATE OR REPLACE that moves several keys at once may end otherwise.
"""

import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from replication.engine.attaching import attach, detach
from replication.tables import quoted
from tests.support.replicas import CLUSTER, choices, fast_folder, new_site
from tests.support.sql_schema import TABLES, create
from tests.support.sql_writer import SqlWriter

RUNS = 40
STEPS = 60
NOW = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d")  # of CURRENT_TIMESTAMP


def add_triggers_that_do_nothing(connection: sqlite3.Connection) -> None:
    for number, table in enumerate(TABLES):
        key = ", ".join(quoted(column) for column in table.key)
        events = ("BEFORE INSERT", "AFTER INSERT", f"BEFORE UPDATE OF {key}", "AFTER UPDATE", "AFTER DELETE")
        for event, text in enumerate(events):
            connection.execute(
                f"CREATE TRIGGER nothing_{number}_{event} {text} ON {quoted(table.name)} BEGIN SELECT 1; END"
            )


def remove_triggers_that_do_nothing(connection: sqlite3.Connection) -> None:
    names = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'nothing~_%' ESCAPE '~'").fetchall()
    for (name,) in names:
        connection.execute(f"DROP TRIGGER {name}")


def played(path: Path, seed: int, *, attached: bool) -> tuple[list[str], list[str]]:
    """What each statement of a random application came to, and the dump of the database afterwards, detached."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        create(connection)
        if attached:
            attach(connection, choices(), cluster=CLUSTER, new_site=lambda: new_site(random.Random(seed)))
        else:
            add_triggers_that_do_nothing(connection)
        with SqlWriter(random.Random(seed), path) as writer:
            for _ in range(STEPS):
                writer.step()
            writer.settle()
        if attached:
            detach(connection)
        else:
            remove_triggers_that_do_nothing(connection)
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        trace = [NOW.sub("now", line) for line in writer.trace]
        return trace, [NOW.sub("now", line) for line in connection.iterdump()]


@pytest.mark.parametrize("first", range(0, RUNS, 10))
def test_an_application_ends_as_it_would_without_litecast(first: int) -> None:
    for seed in range(first, first + 10):
        with fast_folder() as folder:
            plain = played(folder / "plain.db", seed, attached=False)
            captured = played(folder / "captured.db", seed, attached=True)
        assert captured == plain, f"seed {seed}"
