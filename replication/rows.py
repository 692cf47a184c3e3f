"""A row as the application sees it."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Self

from replication.positions import Position

type Value = int | float | str | bytes | None
"""What SQLite can keep in a cell."""

type Key = Value | tuple[Value, ...]
"""A primary key: the value itself, or a tuple where the key has several columns."""

type Parameters = tuple[Any, ...] | list[Any] | Mapping[str, Any]
"""Values for the `?` or `:name` of a statement."""


class Op(StrEnum):
    """What was done to a row that is handed to `Repo.replicate`."""

    INSERT = "insert"
    UPDATE = "update"


class Row(dict[str, Any]):
    """The columns of one row by name, in the table's order; `.table` says which table it is of.

    Values are typed `Any` and not `Value`: the application knows its schema, and should not have to prove it at each
    use. A row that a free query gave has `.table == ""`.
    """

    __slots__ = ("position", "table")

    def __init__(self, table: str, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__(values)
        self.table = table
        self.position = Position()
        """Of a row that was written: what a reader on another node waits for to see it. Empty where nothing is
        replicated by changesets."""

    def copy(self) -> Self:
        """The same row in a dict of its own."""
        same = type(self)(self.table, self)
        same.position = self.position
        return same

    def __repr__(self) -> str:
        return f"Row({self.table!r}, {super().__repr__()})"
