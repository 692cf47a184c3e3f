"""Reading what a changeset changes: whole, or a piece at a time, and believing none of it before it is checked.

The form of the bytes, and the reading of their header, are in `changesets`. Types are checked column by column, in C,
so that a row costs no call: no integer beyond 64 bits, no NaN, no key twice."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import isnan
from typing import Any, Final

import msgpack

from replication.engine.changesets import (
    COUNT_MAX,
    LIFE_MAX,
    NAME_MAX,
    ChangeKind,
    Changeset,
    ChangesetError,
    RowGroup,
    TableChange,
    at_fault,
    check_form,
    check_header,
    check_run,
    parse_deps,
    read_header,
    runs_of_deps,
    unpacked,
    unpacker_of,
)
from replication.engine.runs import UNKNOWN
from replication.engine.stamps import Site, is_baseline, is_site
from replication.engine.values import INT64_MAX

LARGE_BYTES: Final = 4 * 1024 * 1024
"""A changeset of more is decoded piece by piece: as rows of Python's it would take ten times as much."""
PIECE_ROWS: Final = 20_000
PIECE_BYTES: Final = 8 * 1024 * 1024
_COLUMNS_MAX: Final = 2_000  # SQLite's own limit
_INSTEAD_OF_MAX: Final = 100


def decode(encoded: bytes) -> Changeset:
    """The changeset that the bytes are. Raises ChangesetError, and nothing else, if they are none."""
    fields = unpacked(encoded)
    if not isinstance(fields, tuple) or not fields:
        raise ChangesetError("not a changeset")
    check_form(fields[0], len(fields))
    _, cluster, site, after, upto, previous, deps, tables, *last = fields
    check_header(cluster, site, after, upto, previous)
    if not isinstance(tables, tuple):
        raise ChangesetError("the tables are not a list")
    run = last[0] if last else UNKNOWN
    check_run(run)
    changes = tuple(map(_table, tables))
    if len({change.table for change in changes}) != len(changes):
        raise ChangesetError("a table occurs twice")
    return Changeset(
        cluster=cluster,
        site=site,
        after=after,
        upto=upto,
        previous=previous,
        deps=parse_deps(deps),
        tables=changes,
        run=run,
        dep_runs=runs_of_deps(deps),
    )


def decode_table(data: bytes) -> TableChange:
    """One table's change, from what `encodable` gave for it. Raises ChangesetError."""
    return _table(unpacked(data))


def changes_of(encoded: bytes) -> Iterator[TableChange]:
    """What a changeset changes, a piece at a time: of each table one piece or several, each of PIECE_ROWS rows at most.

    Each is checked as it comes, and none holds a key twice. Raises ChangesetError where something is wrong, maybe after
    some pieces: so nothing that was done with these may stay."""
    with at_fault():
        yield from _changes_of(encoded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """How much a changeset has of a table, whose key has these columns. `before`: rows of other tables before them."""

    before: int
    key: tuple[str, ...]
    rows: int


def contents(tables: Iterable[TableChange]) -> dict[str, Contents]:
    """What tables there are of, and how much."""
    found: dict[str, Contents] = {}
    before = 0
    for change in tables:
        found[change.table] = Contents(before=before, key=change.key, rows=change.count)
        before += change.count
    return found


def contents_of(encoded: bytes) -> dict[str, Contents]:
    """What a changeset has of each table, without making anything of its rows. Raises ChangesetError."""
    found: dict[str, Contents] = {}
    with at_fault():
        unpacker = unpacker_of(encoded)
        read_header(unpacker)
        before = 0
        for _ in range(unpacker.read_array_header()):
            if unpacker.read_array_header() != 3:
                raise ChangesetError("a table has three fields")
            name, key = unpacker.unpack(), unpacker.unpack()
            _check_table(name, key)
            rows = sum(_skip_group(unpacker) for _ in range(unpacker.read_array_header()))
            found[name] = Contents(before=before, key=key, rows=rows)
            before += rows
    return found


def _skip_group(unpacker: msgpack.Unpacker) -> int:
    """Gives how many rows it has."""
    fields = unpacker.read_array_header()
    for _ in range(3):
        unpacker.skip()
    rows = int(unpacker.read_array_header())
    for _ in range(rows + fields - 4):
        unpacker.skip()
    return rows


def _changes_of(encoded: bytes) -> Iterator[TableChange]:
    unpacker = unpacker_of(encoded)
    _, has_run, _ = read_header(unpacker)
    names: set[str] = set()
    for _ in range(unpacker.read_array_header()):
        if unpacker.read_array_header() != 3:
            raise ChangesetError("a table has three fields")
        name, key = unpacker.unpack(), unpacker.unpack()
        _check_table(name, key)
        if name in names:
            raise ChangesetError("a table occurs twice")
        names.add(name)
        yield from _pieces(unpacker, name, key)
    check_run(unpacker.unpack() if has_run else UNKNOWN)
    if unpacker.read_bytes(1):
        raise ChangesetError("more than a changeset")


def _pieces(unpacker: msgpack.Unpacker, name: str, key: tuple[str, ...]) -> Iterator[TableChange]:
    groups: list[RowGroup] = []
    keys: set[object] = set()
    count, began = 0, unpacker.tell()
    for group in _read_groups(unpacker):
        groups.append(_group(group, len(key), keys))
        count += len(groups[-1].rows)
        if len(keys) != count:
            raise ChangesetError(f"a key of table {name!r} occurs twice")
        if count >= PIECE_ROWS or unpacker.tell() - began >= PIECE_BYTES:
            yield TableChange(table=name, key=key, groups=tuple(groups))
            groups, keys, count, began = [], set(), 0, unpacker.tell()
    if groups:
        yield TableChange(table=name, key=key, groups=tuple(groups))


def _read_groups(unpacker: msgpack.Unpacker) -> Iterator[tuple[Any, ...]]:
    """The groups of a table; one of many rows as several."""
    for _ in range(unpacker.read_array_header()):
        fields = unpacker.read_array_header()
        kind, cells, counters = (unpacker.unpack() for _ in range(3))
        if fields == 5:  # what comes after the rows is said of each of them
            yield kind, cells, counters, unpacker.unpack(), unpacker.unpack()
            continue
        if fields != 4:
            raise ChangesetError("a group of rows has four fields, or five")
        left = unpacker.read_array_header()
        if not left:
            raise ChangesetError("the rows are not lists")
        while left:
            began = unpacker.tell()
            rows: list[object] = []
            while left and len(rows) < PIECE_ROWS and unpacker.tell() - began < PIECE_BYTES:
                rows.append(unpacker.unpack())
                left -= 1
            yield kind, cells, counters, tuple(rows)


def _table(table: Any) -> TableChange:
    if not isinstance(table, tuple) or len(table) != 3:
        raise ChangesetError("a table has three fields")
    name, key, groups = table
    _check_table(name, key)
    if not isinstance(groups, tuple):
        raise ChangesetError("the rows are not in groups")
    keys: set[object] = set()
    found = tuple([_group(group, len(key), keys) for group in groups])
    if len(keys) != sum([len(group.rows) for group in found]):
        raise ChangesetError(f"a key of table {name!r} occurs twice")
    return TableChange(table=name, key=key, groups=found)


def _check_table(name: Any, key: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
        raise ChangesetError("the table has no name")
    if not _are_names(key) or not key:
        raise ChangesetError("the key's columns are not names")


def _are_names(names: Any) -> bool:
    if not isinstance(names, tuple) or len(names) > _COLUMNS_MAX:
        return False
    if not names:
        return True
    if set(map(type, names)) != {str} or len(set(names)) != len(names):
        return False
    lengths = set(map(len, names))
    return min(lengths) > 0 and max(lengths) <= NAME_MAX


def _group(group: Any, key_size: int, keys: set[object]) -> RowGroup:
    """The group, and its keys into `keys`."""
    if not isinstance(group, tuple) or len(group) not in (4, 5):
        raise ChangesetError("a group of rows has four fields, or five")
    kind, cells, counters, rows, *rest = group
    instead_of = _instead_of(rest[0]) if rest else ()
    if type(kind) is not int or kind not in _KINDS:
        raise ChangesetError("an unknown kind of change")
    if not _are_names(cells) or not _are_names(counters) or not set(cells).isdisjoint(counters):
        raise ChangesetError("the columns are not names")
    if kind == ChangeKind.DELETE and (cells or counters):
        raise ChangesetError("a deleted row has no cells")
    if not isinstance(rows, tuple) or not rows or set(map(type, rows)) != {tuple}:
        raise ChangesetError("the rows are not lists")
    width = key_size + 1 + len(cells) + len(counters)
    if set(map(len, rows)) != {width}:
        raise ChangesetError("a row has as many values as its group has columns")
    columns = list(zip(*rows, strict=True))
    counts_at = width - len(counters)
    check_lives(columns[key_size], alive=kind != ChangeKind.DELETE)
    for column in columns[counts_at:]:
        check_counts(column)
    values = columns[:key_size] + columns[key_size + 1 : counts_at]
    if len(rows) < _FEW_ROWS:
        check_values(tuple(chain.from_iterable(values)))
    else:
        for column in values:
            check_values(column)
    keys.update(columns[0] if key_size == 1 else zip(*columns[:key_size], strict=True))
    return RowGroup(kind=_KINDS[kind], cells=cells, counters=counters, rows=rows, instead_of=instead_of)


def _instead_of(sites: Any) -> tuple[Site, ...]:
    if not isinstance(sites, tuple) or not 0 < len(sites) <= _INSTEAD_OF_MAX:
        raise ChangesetError("those whose shares are in these counts are not a list")
    if not all(is_site(site) and not is_baseline(site) for site in sites) or len(set(sites)) != len(sites):
        raise ChangesetError("those whose shares are in these counts are not sites")
    return tuple(map(Site, sites))


_FEW_ROWS = 16
"""Of less than so many, all columns are looked at together: most of the time goes into calls."""

_KINDS = {kind.value: kind for kind in ChangeKind}

_VALUE_TYPES = frozenset({type(None), int, float, str, bytes})


def check_values(column: tuple[Any, ...]) -> None:
    """Raises ChangesetError unless all of it is what SQLite stores."""
    types = set(map(type, column))
    if not types <= _VALUE_TYPES:
        raise ChangesetError("a value of a type that SQLite does not have")
    if int in types and max(column if len(types) == 1 else _of_type(int, column)) > INT64_MAX:
        raise ChangesetError("an integer of more than 64 bits")
    if float in types and any(map(isnan, column if len(types) == 1 else _of_type(float, column))):
        raise ChangesetError("a value that is not a number")


def _of_type(kind: type, column: tuple[Any, ...]) -> Iterator[Any]:
    return (value for value in column if type(value) is kind)


def check_lives(column: tuple[Any, ...], *, alive: bool) -> None:
    """Raises ChangesetError unless all of it is lives of rows that are there, or, without `alive`, that ended."""
    lives = set(column)
    if set(map(type, column)) != {int} or min(lives) < 1 or max(lives) > LIFE_MAX:
        raise ChangesetError("a life is a number from 1")
    for life in lives:
        if (life & 1) != alive:
            raise ChangesetError("a life is odd while the row lives, and even after")


def check_counts(column: tuple[Any, ...]) -> None:
    """Raises ChangesetError unless all of it is contributions to counters."""
    if set(map(type, column)) != {int} or min(column) < -COUNT_MAX or max(column) > COUNT_MAX:
        raise ChangesetError(f"a count is an integer within {COUNT_MAX} of 0")
