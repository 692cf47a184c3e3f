"""A tail as one thing: its name, what it comes to, and how it travels. Pure.

A tail is what one site wrote after the next epoch had begun. Its changesets, one after the other, come to at most one
change for each row: what `net` gives."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from replication.engine.changesets import ChangeKind, RowChange
from replication.engine.epochs import epoch_of
from replication.engine.forwarded import TABLE as FORWARDED
from replication.engine.stamps import Site, Stamp, ms_of
from replication.engine.values import Key, Value

_NAME_DIGITS: Final = 8
_SITE_HEAD: Final = 13
"""Of an epoch's site: `p`, and the epoch."""


class Op(StrEnum):
    """What a tail did to a row, all in all."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One tail. `changesets` and `bytes` are what is kept of it, `from_ms` and `upto_ms` when it was written."""

    site: Site
    upto: Stamp
    changesets: int
    bytes: int
    from_ms: int
    upto_ms: int

    @property
    def epoch(self) -> int:
        """In which it was written."""
        return epoch_of(self.site)

    @property
    def name(self) -> str:
        """For people: the epoch, and the first digits of what nobody else drew."""
        if not self.epoch:
            return f"0-{self.site[:_NAME_DIGITS]}"
        return f"{self.epoch}-{self.site[_SITE_HEAD : _SITE_HEAD + _NAME_DIGITS]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of one row. `cells` are the columns that the tail wrote, `counts` all that its site added to each
    counter in the row's life, also before the tail."""

    table: str
    key_columns: tuple[str, ...]
    key: Key
    op: Op
    life: int
    cells: Mapping[str, Value] = field(default_factory=dict[str, Value])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])

    def plain(self) -> list[object]:
        """As it travels to the primary."""
        return [
            self.table,
            list(self.key_columns),
            list(self.key),
            str(self.op),
            self.life,
            dict(self.cells),
            dict(self.counts),
        ]

    @classmethod
    def parse(cls, plain: Any) -> "Change":
        """What `plain` gave. Raises ValueError for what is none."""
        match plain:
            case [str(table), list(columns), list(key), str(op), int(life), dict(cells), dict(counts)]:
                return cls(
                    table=table,
                    key_columns=tuple(columns),
                    key=tuple(key),
                    op=Op(op),
                    life=life,
                    cells=cells,
                    counts=counts,
                )
            case _:
                raise ValueError("not a change of a tail")


@dataclass(slots=True)
class _Row:
    """One row on the way through a tail."""

    existed: bool
    exists: bool
    life: int
    cells: dict[str, Value]
    counts: dict[str, int]


def net(changes: Iterable[tuple[str, tuple[str, ...], RowChange]]) -> list[Change]:
    """What a tail comes to: of each row one change, in the order in which rows were first touched. Without the keys of
    forwarded writes, which belong to the writes."""
    rows: dict[tuple[str, tuple[str, ...], Key], _Row] = {}
    for table, columns, change in changes:
        if table == FORWARDED:
            continue
        at = (table, columns, change.key)
        row = rows.get(at)
        if row is None:
            existed = change.kind is not ChangeKind.INSERT
            row = rows[at] = _Row(existed=existed, exists=existed, life=change.life, cells={}, counts={})
        if change.kind is ChangeKind.UPDATE:
            row.cells.update(change.cells)
            row.counts.update(change.counts)
        else:
            row.cells, row.counts = dict(change.cells), dict(change.counts)
        row.exists, row.life = change.kind is not ChangeKind.DELETE, change.life
    return [
        Change(
            table=table,
            key_columns=columns,
            key=key,
            op=Op.DELETE if not row.exists else Op.UPDATE if row.existed else Op.INSERT,
            life=row.life,
            cells=row.cells if row.exists else {},
            counts=row.counts if row.exists else {},
        )
        for (table, columns, key), row in rows.items()
        if row.existed or row.exists
    ]


def of_rows(site: Site, uptos: Iterable[tuple[Stamp, int]]) -> Unit:
    """The tail of a site whose changesets end at these stamps and have so many bytes."""
    found = sorted(uptos)
    return Unit(
        site=site,
        upto=found[-1][0],
        changesets=len(found),
        bytes=sum(size for _, size in found),
        from_ms=ms_of(found[0][0]),
        upto_ms=ms_of(found[-1][0]),
    )


def named(units: Iterable[Unit], name: str) -> list[Unit]:
    """Those that are meant: of this name, or whose site begins so."""
    return [unit for unit in units if unit.name == name or (len(name) > _SITE_HEAD and unit.site.startswith(name))]
