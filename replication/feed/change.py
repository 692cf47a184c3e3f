"""One change of one row, as a reader of the feed gets it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from replication.engine.stamps import Site
from replication.engine.values import Value
from replication.feed.position import FeedPosition


class ChangeOp(StrEnum):
    """What happened to the row; what whoever keeps a copy of the table does with it."""

    ROW = "row"
    """It was there when the reader began. Put it in the place of whatever is there."""
    INSERT = "insert"
    """It is new, or new again. Put it in the place of whatever is there."""
    UPDATE = "update"
    """These columns have other values. If there is no such row, leave it."""
    DELETE = "delete"
    """It is gone. If there is no such row, leave it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who wrote it. `node` is the name of the node that writes under the site, where this node has heard of it."""

    site: Site
    node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a row. `key` has the columns of the primary key, `columns` the other ones that changed, with what was
    written; for a counter, what the counter shows now. `origin` is None for a ROW, which may be of many.

    `position`: where to go on after it."""

    table: str
    op: ChangeOp
    key: Mapping[str, Value]
    columns: Mapping[str, Value]
    origin: Origin | None
    position: FeedPosition
