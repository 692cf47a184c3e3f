"""Columns that bear another name in another version of the schema, as the settings declare it.

Without a word, a renamed column is a dropped one and a new one: nobody could know better. If it is declared, with
`renamed = {old = "new"}`, it is one column. Its number, and so all that is known of its cells, goes along when it is
renamed here; and what comes for it under the name that it has elsewhere, be it the old one or the new, goes to it.

What came for the new name before anybody said that it is the old one's was held. It is united with what is known of the
old one when the column is renamed: of each cell the later write stays, of counters each site's later share.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

TABLE: Final = "_litecast_renamed"
CREATE: Final = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (tid INTEGER NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL, PRIMARY KEY (tid, old))
WITHOUT ROWID"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A column that was called `former` and is called `name`. `others`: a number that others' use of the name had."""

    former: str
    name: str
    number: int
    others: int | None


class Names:
    """What is declared of one table: old names, each with the new one."""

    def __init__(self, renamed: Mapping[str, str]) -> None:
        self.renamed = dict(renamed)
        self._former: dict[str, list[str]] = {}
        for old, new in self.renamed.items():
            self._former.setdefault(new, []).append(old)

    def __bool__(self) -> bool:
        return bool(self.renamed)

    def before(self, name: str) -> Iterator[str]:
        """Names that the column had before this one, the latest first."""
        seen = {name}
        todo = [name]
        while todo:
            for old in self._former.get(todo.pop(0), ()):
                if old not in seen:
                    seen.add(old)
                    todo.append(old)
                    yield old

    def after(self, name: str) -> Iterator[str]:
        """Names that it had after this one, in order."""
        seen = {name}
        while (name := self.renamed.get(name, "")) and name not in seen:
            seen.add(name)
            yield name

    def others(self, name: str) -> Iterator[str]:
        """All other names of the column."""
        yield from self.after(name)
        yield from self.before(name)


def load(connection: sqlite3.Connection, tid: int) -> Names:
    """What is declared of a table."""
    return Names(dict(connection.execute(f"SELECT old, new FROM main.{TABLE} WHERE tid = ?", (tid,)).fetchall()))


def declare(connection: sqlite3.Connection, tid: int, renamed: Mapping[str, str]) -> None:
    """Declares these, and no others. Inside the caller's transaction."""
    connection.execute(f"DELETE FROM main.{TABLE} WHERE tid = ?", (tid,))
    connection.executemany(
        f"INSERT INTO main.{TABLE} (tid, old, new) VALUES (?, ?, ?)",
        [(tid, old, new) for old, new in renamed.items()],
    )
