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

Rows that carry the same columns share a group, so that a row is one flat tuple from the encoder to SQLite.

Here are the types, the bytes made of them, and the reading of the header: who orders a changeset, forwards it or keeps
it needs no more. What it changes is read by `decoding`. Neither believes anything: no maps, no extension types."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, NoReturn, cast

import msgpack

from replication.engine.runs import RUN_BYTES, UNKNOWN
from replication.engine.stamps import STAMP_MAX, Site, Stamp, first_after, is_baseline, is_site
from replication.engine.values import Key, Value, pack

FORM: Final = 2
"""Number of the form of the bytes. Another one is refused, but for form 1, which journals still hold."""
_FORM_WITHOUT_RUNS: Final = 1
_FIELDS: Final = {_FORM_WITHOUT_RUNS: 8, FORM: 9}
"""How many fields each form has."""

_READ_BYTES: Final = 64 * 1024

DIGEST_BYTES: Final = 16
COUNT_MAX: Final = 2**53
"""A contribution lies within plus and minus this, so that the sum of 1,024 sites' fits SQLite's integer."""
CHANGESET_MAX_BYTES: Final = 256 * 1024 * 1024
LIFE_MAX: Final = 2**53
NAME_MAX: Final = 4_096
_SITES_MAX: Final = 100_000


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


def header(encoded: bytes) -> Header:
    """The header of the changeset that the bytes are, without a look at the rest. Raises ChangesetError."""
    try:
        return read_header(unpacker_of(encoded))[0]
    except ChangesetError:
        raise
    except Exception as error:  # as in `at_fault`, which would take as long as the rest
        raise ChangesetError(f"not a changeset ({type(error).__name__})") from error


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


def unpacker_of(encoded: bytes) -> msgpack.Unpacker:
    """What reads the bytes one by one. Raises ChangesetError if they are too many; more, where `at_fault` is, later."""
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


def unpacked(encoded: bytes) -> Any:
    """All that the bytes say, as tuples, and nothing of it checked. Raises ChangesetError."""
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


def read_header(unpacker: msgpack.Unpacker) -> tuple[Header, bool, dict[Site, bytes]]:
    """The header, whether the run follows the tables, and the runs of the deps."""
    count = unpacker.read_array_header()
    form = unpacker.unpack()
    check_form(form, count)
    cluster, site, after, upto, previous, deps = (unpacker.unpack() for _ in range(6))
    check_header(cluster, site, after, upto, previous)
    found = Header(cluster=cluster, site=site, after=after, upto=upto, previous=previous, deps=parse_deps(deps))
    return found, form != _FORM_WITHOUT_RUNS, runs_of_deps(deps)


@contextmanager
def at_fault() -> Iterator[None]:
    """Whatever msgpack raises, or ValueError, or RecursionError: the bytes are at fault."""
    try:
        yield
    except ChangesetError:
        raise
    except Exception as error:
        raise ChangesetError(f"not a changeset ({type(error).__name__})") from error


def decode_head(encoded: bytes) -> Changeset:
    """A changeset without its tables, which `changes_of` gives. Raises ChangesetError."""
    with at_fault():
        unpacker = unpacker_of(encoded)
        found, has_run, dep_runs = read_header(unpacker)
        unpacker.skip()
        run = unpacker.unpack() if has_run else UNKNOWN
        check_run(run)
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


def check_form(form: Any, count: int) -> None:
    """Raises ChangesetError unless the form is known, and has so many fields."""
    if type(form) is not int:
        raise ChangesetError("not a changeset")
    if form not in _FIELDS:
        raise ChangesetError(f"a changeset of form {form}, and forms up to {FORM} are known; upgrade litecast")
    if count != _FIELDS[form]:
        raise ChangesetError(f"a changeset has {_FIELDS[form]} fields")


def check_header(cluster: Any, site: Any, after: Any, upto: Any, previous: Any) -> None:
    """Raises ChangesetError unless these are what a changeset says of itself."""
    if not isinstance(cluster, str) or len(cluster) > NAME_MAX:
        raise ChangesetError("the cluster is not a name")
    if not is_site(site):
        raise ChangesetError("the site is not one")
    if type(after) is not int or type(upto) is not int or not -1 <= after < upto <= STAMP_MAX:
        raise ChangesetError("the range of stamps is not one")
    if is_baseline(site) != (after == -1) or (is_baseline(site) and upto != 0):
        raise ChangesetError("a baseline has the stamp 0, and nothing else has")
    if not isinstance(previous, bytes) or len(previous) != (0 if after == first_after(site) else DIGEST_BYTES):
        raise ChangesetError("the hash of the previous changeset is not one")


def _no_map(_pairs: object) -> NoReturn:
    raise ChangesetError("a changeset has no maps")


def _no_extension(_code: int, _data: bytes) -> NoReturn:
    raise ChangesetError("a changeset has no extension types")


def parse_deps(deps: Any) -> dict[Site, Stamp]:
    """The heads of other sites. Raises ChangesetError."""
    if not isinstance(deps, tuple) or len(deps) > _SITES_MAX:
        raise ChangesetError("the deps are not a list")
    found: dict[Site, Stamp] = {}
    for dep in deps:
        if not isinstance(dep, tuple) or len(dep) not in (2, 3) or not is_site(dep[0]):
            raise ChangesetError("a dep is not a site, a stamp and a run")
        if type(dep[1]) is not int or not 0 <= dep[1] <= STAMP_MAX:
            raise ChangesetError("a dep's stamp is not one")
        check_run(*dep[2:])
        found[Site(dep[0])] = Stamp(dep[1])
    return found


def runs_of_deps(deps: Any) -> dict[Site, bytes]:
    """The runs, as far as they are known, of deps that were checked."""
    return {dep[0]: dep[2] for dep in deps if len(dep) > 2 and dep[2]}


def check_run(run: Any = UNKNOWN) -> None:
    """Raises ChangesetError unless it is the name of a run, or UNKNOWN."""
    if not isinstance(run, bytes) or len(run) not in (0, RUN_BYTES):
        raise ChangesetError("a run is not one")
