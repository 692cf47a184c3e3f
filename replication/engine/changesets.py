"""A changeset: what one site committed in the range `(after, upto]` of its stamps. Immutable, forwarded byte by byte.

Everything in a changeset is stamped `(upto, site)`. `previous` is the hash of the site's changeset that ended at
`after`, so that changesets of a site form a chain, and two that claim the same place are told apart. `deps` are the
heads of other sites that moved at the origin since its previous changeset: whoever covers them and `after` has seen
all that the origin had seen. Each names the run that made it, so that heads of two histories are told apart.

The last field tells which run of the site's node made it (see `runs`). Changesets of form 1 name no runs.

The bytes (msgpack):

    [FORM, cluster, site, after, upto, previous, [[site, stamp, run], ...], [table, ...], run]
    table = [name, [key column, ...], [group, ...]]
    group = [kind, [column, ...], [counter, ...], [row, ...]]   and, in what is stamped again, [site, ...] after these
    row   = [key value, ..., life, cell, ..., count, ...]

Rows that carry the same columns share a group, so that a row is one flat tuple from the encoder to SQLite. Decoding
checks types column by column, in C, and believes nothing: no maps, no extension types, no integer beyond 64 bits, no
key twice."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import chain
from math import isnan
from typing import Any, Final, NoReturn, cast

import msgpack

from replication.engine.runs import RUN_BYTES, UNKNOWN
from replication.engine.stamps import STAMP_MAX, Site, Stamp, first_after, is_baseline, is_site
from replication.engine.values import INT64_MAX, Key, Value, pack

FORM: Final = 2
"""Number of the form of the bytes. Another one is refused, but for form 1, which journals still hold."""
_FORM_WITHOUT_RUNS: Final = 1
_FIELDS: Final = {_FORM_WITHOUT_RUNS: 8, FORM: 9}
"""How many fields each form has."""

LARGE_BYTES: Final = 4 * 1024 * 1024
"""A changeset of more is decoded piece by piece: as rows of Python's it would take ten times as much."""
PIECE_ROWS: Final = 20_000
PIECE_BYTES: Final = 8 * 1024 * 1024
_READ_BYTES: Final = 64 * 1024

DIGEST_BYTES: Final = 16
COUNT_MAX: Final = 2**53
"""A contribution lies within plus and minus this, so that the sum of 1,024 sites' fits SQLite's integer."""
CHANGESET_MAX_BYTES: Final = 256 * 1024 * 1024
LIFE_MAX: Final = 2**53
_NAME_MAX: Final = 4_096
_COLUMNS_MAX: Final = 2_000  # SQLite's own limit
_SITES_MAX: Final = 100_000
_INSTEAD_OF_MAX: Final = 100


class ChangesetError(Exception):
    """The bytes are not a changeset of a form known here. Nothing was changed."""


class ChangeKind(IntEnum):
    """What happened to a row, as its site saw it."""

    INSERT = 1
    """A life begins; the row is carried whole."""
    UPDATE = 2
    """Some cells or counters changed in a life that had begun before."""
    DELETE = 3
    """A life ended; `life` is the even number after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowChange:
    """One row's change, for who looks at a single one. `counts` are the site's whole contributions, not differences."""

    kind: ChangeKind
    key: Key
    life: int
    cells: Mapping[str, Value]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """Rows that changed alike: the same kind, the same columns. A row is its key, its life, its cells, its counts.

    `instead_of`: closed sites whose shares of these counters are none any more, since they are in these counts."""

    kind: ChangeKind
    cells: tuple[str, ...]
    counters: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]
    instead_of: tuple[Site, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """What changed in one table. No key occurs twice."""

    table: str
    key: tuple[str, ...]
    groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> tuple[RowChange, ...]:
        """The rows one by one, in the order of the groups."""
        return tuple(self.each())

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(len(group.rows) for group in self.groups)

    def each(self) -> Iterator[RowChange]:
        """`rows`, made as they are needed."""
        size = len(self.key)
        for group in self.groups:
            counts_at = size + 1 + len(group.cells)
            for row in group.rows:
                yield RowChange(
                    kind=group.kind,
                    key=row[:size],
                    life=cast("int", row[size]),
                    cells=dict(zip(group.cells, row[size + 1 : counts_at], strict=True)),
                    counts=dict(zip(group.counters, cast("tuple[int, ...]", row[counts_at:]), strict=True)),
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Changeset:
    """See the module. `previous` is empty, and `after` that of `first_after`, in a site's first."""

    cluster: str
    site: Site
    after: Stamp
    upto: Stamp
    previous: bytes
    deps: Mapping[Site, Stamp]
    tables: tuple[TableChange, ...]
    run: bytes = UNKNOWN
    dep_runs: Mapping[Site, bytes] = field(default_factory=dict[Site, bytes])
    """The run of each head in `deps`, if it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A changeset without its tables: what decides whether, and after what, it can be merged."""

    cluster: str
    site: Site
    after: Stamp
    upto: Stamp
    previous: bytes
    deps: Mapping[Site, Stamp]


def table_change(table: str, key: Sequence[str], rows: Iterable[RowChange]) -> TableChange:
    """Rows put into groups."""
    groups: dict[tuple[ChangeKind, tuple[str, ...], tuple[str, ...]], list[tuple[Value, ...]]] = {}
    for row in rows:
        shape = (row.kind, tuple(row.cells), tuple(row.counts))
        groups.setdefault(shape, []).append((*row.key, row.life, *row.cells.values(), *row.counts.values()))
    return TableChange(
        table=table,
        key=tuple(key),
        groups=tuple(
            RowGroup(kind=kind, cells=cells, counters=counters, rows=tuple(found))
            for (kind, cells, counters), found in groups.items()
        ),
    )


def digest(encoded: bytes) -> bytes:
    """The hash that heads carry: BLAKE2b, 16 bytes."""
    return hashlib.blake2b(encoded, digest_size=DIGEST_BYTES).digest()


class EncodedTables:
    """The tables of a changeset as bytes, which grow piece by piece. `rows`: how many there are so far."""

    def __init__(self, changes: Iterable[TableChange] = ()) -> None:
        self.rows = 0
        self.size = 0
        """Bytes so far."""
        self._tables: dict[str, tuple[bytes, list[bytes]]] = {}
        for change in changes:
            self.add(change)

    def __bool__(self) -> bool:
        return bool(self._tables)

    def clear(self) -> None:
        """Begins anew."""
        self.rows = self.size = 0
        self._tables.clear()

    def add(self, change: TableChange) -> None:
        """More of what changed. A table may come again, with other keys, as long as no other has come since."""
        name = pack(change.table) + pack(change.key)
        _, groups = self._tables.setdefault(change.table, (name, []))
        for group in change.groups:
            encoded = pack(_encodable_group(group))
            groups.append(encoded)
            self.rows += len(group.rows)
            self.size += len(encoded)

    def parts(self) -> Iterator[bytes]:
        """The bytes in order: a msgpack array of the tables."""
        yield _array_header(len(self._tables))
        for name, groups in self._tables.values():
            yield _TABLE + name + _array_header(len(groups))
            yield from groups


def encode(changeset: Changeset, tables: EncodedTables | None = None) -> bytes:
    """The changeset's bytes. `tables`: its tables, if they are encoded already; its own ones are left out then."""
    deps = tuple((dep, stamp, changeset.dep_runs.get(dep, UNKNOWN)) for dep, stamp in sorted(changeset.deps.items()))
    head = (FORM, changeset.cluster, changeset.site, changeset.after, changeset.upto, changeset.previous, deps)
    tables = EncodedTables(changeset.tables) if tables is None else tables
    return b"".join((_array_header(_FIELDS[FORM]), pack(head)[1:], *tables.parts(), pack(changeset.run)))


def _array_header(size: int) -> bytes:
    """What msgpack begins an array of so many with: one byte, if there are less than 16."""
    if size < 16:
        return bytes([0x90 | size])
    return b"\xdc" + size.to_bytes(2, "big") if size < 1 << 16 else b"\xdd" + size.to_bytes(4, "big")


_TABLE: Final = _array_header(3)


def encodable(tables: Sequence[TableChange]) -> Any:
    """The tables as msgpack takes them."""
    return tuple((table.table, table.key, tuple(map(_encodable_group, table.groups))) for table in tables)


def _encodable_group(group: RowGroup) -> Any:
    instead_of = [group.instead_of] if group.instead_of else []
    return (int(group.kind), group.cells, group.counters, group.rows, *instead_of)


def decode(encoded: bytes) -> Changeset:
    """The changeset that the bytes are. Raises ChangesetError, and nothing else, if they are none."""
    fields = _fields(encoded)
    if not isinstance(fields, tuple) or not fields:
        raise ChangesetError("not a changeset")
    _check_form(fields[0], len(fields))
    _, cluster, site, after, upto, previous, deps, tables, *last = fields
    _check_header(cluster, site, after, upto, previous)
    if not isinstance(tables, tuple):
        raise ChangesetError("the tables are not a list")
    run = last[0] if last else UNKNOWN
    _check_run(run)
    changes = tuple(map(_table, tables))
    if len({change.table for change in changes}) != len(changes):
        raise ChangesetError("a table occurs twice")
    return Changeset(
        cluster=cluster,
        site=site,
        after=after,
        upto=upto,
        previous=previous,
        deps=_deps(deps),
        tables=changes,
        run=run,
        dep_runs=_dep_runs(deps),
    )


def header(encoded: bytes) -> Header:
    """The header of the changeset that the bytes are, without a look at the rest. Raises ChangesetError."""
    try:
        return _read_header(_unpacker(encoded))[0]
    except ChangesetError:
        raise
    except Exception as error:  # as in `_at_fault`, which would take as long as the rest
        raise ChangesetError(f"not a changeset ({type(error).__name__})") from error


def changes_of(encoded: bytes) -> Iterator[TableChange]:
    """What a changeset changes, a piece at a time: of each table one piece or several, each of PIECE_ROWS rows at most.

    Each is checked as it comes, and none holds a key twice. Raises ChangesetError where something is wrong, maybe after
    some pieces: so nothing that was done with these may stay."""
    with _at_fault():
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
    with _at_fault():
        unpacker = _unpacker(encoded)
        _read_header(unpacker)
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
    unpacker = _unpacker(encoded)
    _, has_run, _ = _read_header(unpacker)
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
    _check_run(unpacker.unpack() if has_run else UNKNOWN)
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


class _Reader:
    """Bytes as a file that is read from the beginning, without another copy of them all."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """The next so many."""
        end = len(self._content) if size < 0 else self._at + size
        found = bytes(self._content[self._at : end])
        self._at += len(found)
        return found


def _unpacker(encoded: bytes) -> msgpack.Unpacker:
    if len(encoded) > CHANGESET_MAX_BYTES:
        raise ChangesetError(f"larger than {CHANGESET_MAX_BYTES} bytes")
    unpacker = msgpack.Unpacker(
        None if len(encoded) <= _READ_BYTES else _Reader(encoded),
        read_size=_READ_BYTES,
        use_list=False,
        unicode_errors="surrogateescape",
        object_pairs_hook=_no_map,
        ext_hook=_no_extension,
        max_buffer_size=CHANGESET_MAX_BYTES,
    )
    if len(encoded) <= _READ_BYTES:
        unpacker.feed(encoded)
    return unpacker


def _read_header(unpacker: msgpack.Unpacker) -> tuple[Header, bool, dict[Site, bytes]]:
    """The header, whether the run follows the tables, and the runs of the deps."""
    count = unpacker.read_array_header()
    form = unpacker.unpack()
    _check_form(form, count)
    cluster, site, after, upto, previous, deps = (unpacker.unpack() for _ in range(6))
    _check_header(cluster, site, after, upto, previous)
    found = Header(cluster=cluster, site=site, after=after, upto=upto, previous=previous, deps=_deps(deps))
    return found, form != _FORM_WITHOUT_RUNS, _dep_runs(deps)


@contextmanager
def _at_fault() -> Iterator[None]:
    """Whatever msgpack raises, or ValueError, or RecursionError: the bytes are at fault."""
    try:
        yield
    except ChangesetError:
        raise
    except Exception as error:
        raise ChangesetError(f"not a changeset ({type(error).__name__})") from error


def decode_head(encoded: bytes) -> Changeset:
    """A changeset without its tables, which `changes_of` gives. Raises ChangesetError."""
    with _at_fault():
        unpacker = _unpacker(encoded)
        found, has_run, dep_runs = _read_header(unpacker)
        unpacker.skip()
        run = unpacker.unpack() if has_run else UNKNOWN
        _check_run(run)
        return Changeset(
            cluster=found.cluster,
            site=found.site,
            after=found.after,
            upto=found.upto,
            previous=found.previous,
            deps=found.deps,
            tables=(),
            run=run,
            dep_runs=dep_runs,
        )


def _check_form(form: Any, count: int) -> None:
    if type(form) is not int:
        raise ChangesetError("not a changeset")
    if form not in _FIELDS:
        raise ChangesetError(f"a changeset of form {form}, and forms up to {FORM} are known; upgrade litecast")
    if count != _FIELDS[form]:
        raise ChangesetError(f"a changeset has {_FIELDS[form]} fields")


def _check_header(cluster: Any, site: Any, after: Any, upto: Any, previous: Any) -> None:
    if not isinstance(cluster, str) or len(cluster) > _NAME_MAX:
        raise ChangesetError("the cluster is not a name")
    if not is_site(site):
        raise ChangesetError("the site is not one")
    if type(after) is not int or type(upto) is not int or not -1 <= after < upto <= STAMP_MAX:
        raise ChangesetError("the range of stamps is not one")
    if is_baseline(site) != (after == -1) or (is_baseline(site) and upto != 0):
        raise ChangesetError("a baseline has the stamp 0, and nothing else has")
    if not isinstance(previous, bytes) or len(previous) != (0 if after == first_after(site) else DIGEST_BYTES):
        raise ChangesetError("the hash of the previous changeset is not one")


def decode_table(data: bytes) -> TableChange:
    """One table's change, from what `encodable` gave for it. Raises ChangesetError."""
    return _table(_fields(data))


def _fields(encoded: bytes) -> Any:
    if len(encoded) > CHANGESET_MAX_BYTES:
        raise ChangesetError(f"larger than {CHANGESET_MAX_BYTES} bytes")
    try:
        return msgpack.unpackb(
            encoded,
            use_list=False,
            unicode_errors="surrogateescape",
            object_pairs_hook=_no_map,
            ext_hook=_no_extension,
        )
    except ChangesetError:
        raise
    except Exception as error:  # msgpack's own, ValueError, RecursionError: whatever it is, the bytes are at fault
        raise ChangesetError(f"not a changeset ({type(error).__name__})") from error


def _no_map(_pairs: object) -> NoReturn:
    raise ChangesetError("a changeset has no maps")


def _no_extension(_code: int, _data: bytes) -> NoReturn:
    raise ChangesetError("a changeset has no extension types")


def _deps(deps: Any) -> dict[Site, Stamp]:
    if not isinstance(deps, tuple) or len(deps) > _SITES_MAX:
        raise ChangesetError("the deps are not a list")
    found: dict[Site, Stamp] = {}
    for dep in deps:
        if not isinstance(dep, tuple) or len(dep) not in (2, 3) or not is_site(dep[0]):
            raise ChangesetError("a dep is not a site, a stamp and a run")
        if type(dep[1]) is not int or not 0 <= dep[1] <= STAMP_MAX:
            raise ChangesetError("a dep's stamp is not one")
        _check_run(*dep[2:])
        found[Site(dep[0])] = Stamp(dep[1])
    return found


def _dep_runs(deps: Any) -> dict[Site, bytes]:
    """Of deps that were checked."""
    return {dep[0]: dep[2] for dep in deps if len(dep) > 2 and dep[2]}


def _check_run(run: Any = UNKNOWN) -> None:
    if not isinstance(run, bytes) or len(run) not in (0, RUN_BYTES):
        raise ChangesetError("a run is not one")


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
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_MAX:
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
    return min(lengths) > 0 and max(lengths) <= _NAME_MAX


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
