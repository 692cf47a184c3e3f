"""The state of some of a table's rows, as one node hands it to another: its form, and the checks before it is believed.

A changeset says what one site wrote. A range says what is known of each row whose key lies in `(after, upto]`, by
whomever it was written: its life and the dot of its insert, each cell with its own dot, each site's share of each
counter; tombstones; and the floor below which tombstones were trimmed. `vector` is what the sender had merged when it
read this, no more and no less: a range is read from a state in which nothing waits to be folded.

The bytes (msgpack, no maps):

    [FORM, cluster, ROWS, [[site, stamp, hash, run], ...], table, after, upto, floor, [key column, ...], [counter, ...],
        [[number, site], ...], [ended, ...], [group, ...], [group, ...], [count, ...], sender]
    ended = [key value, ..., life, stamp, number]
    group = [[column, ...], [row, ...]]
    row   = [key value, ..., life, stamp, number, cell, ...]                           all cells with the insert's dot
    row   = [key value, ..., life, stamp, number, cell, ..., stamp, number, ...]       in the second list: each its own
    count = [counter, [[row, number, stamp, value], ...]]

Sites are the sender's short numbers, so that a row goes from its SELECT into the bytes as it is. In a count, `row` is
the place of the row among all rows of all groups. What is held for a table that is not attached travels as it is held:

    [FORM, cluster, HELD, [[site, stamp, hash, run], ...], table, after, upto, floor,
        [[site, stamp, lacking, change], ...], sender]

where `after` and `upto` are the place in the sender's list, and `change` is a table's part of a changeset. `sender` is
the run that read it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from replication.engine.changesets import CHANGESET_MAX_BYTES, DIGEST_BYTES, LIFE_MAX, ChangesetError, TableChange
from replication.engine.decoding import check_counts, check_lives, check_values, decode_table
from replication.engine.received import (
    NAME_MAX,
    SITES_MAX,
    Malformed,
    data,
    distinct_names,
    flag,
    listed,
    name,
    site,
    text,
    unpacked,
    whole,
)
from replication.engine.runs import RUN_BYTES, UNKNOWN
from replication.engine.sites import Head
from replication.engine.stamps import STAMP_MAX, Dot, Site, Stamp
from replication.engine.values import INT64_MAX, Key, Value, pack

FORM: Final = 2
"""Number of the form of the bytes. Another one is refused."""
_ROWS: Final = 1
_HELD: Final = 2
_ITEMS_MAX: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StateGroup:
    """Living rows of which the same columns were ever written."""

    cells: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRange:
    """See the module. `plain` are rows whose cells all have the insert's dot, `changed` the other living ones."""

    cluster: str
    vector: Mapping[Site, Head]
    table: str
    after: Key | None
    upto: Key | None
    floor: int
    key: tuple[str, ...]
    counters: tuple[str, ...]
    """Those that the sender's schema has. One without a share in a row counts 0 there."""
    sites: Mapping[int, Site]
    ended: Sequence[tuple[Value, ...]]
    plain: tuple[StateGroup, ...]
    changed: tuple[StateGroup, ...]
    counts: Mapping[str, Sequence[tuple[int, int, int, int]]]
    sender: bytes

    @property
    def alive(self) -> Iterator[tuple[Value, ...]]:
        """The living rows, in the order in which counts number them."""
        for group in (*self.plain, *self.changed):
            yield from group.rows

    @property
    def newest(self) -> int:
        """The largest stamp in it."""
        return max(self._stamps(), default=0)

    def _stamps(self) -> Iterator[int]:
        at = len(self.key) + 1
        yield from (head.stamp for head in self.vector.values())
        for rows in (self.ended, *(group.rows for group in (*self.plain, *self.changed))):
            yield from (cast("int", row[at]) for row in rows)
        for group in self.changed:
            for place in range(at + 2 + len(group.cells), at + 2 + 3 * len(group.cells), 2):
                yield from (cast("int", row[place]) for row in group.rows)
        for shares in self.counts.values():
            yield from (stamp for _, _, stamp, _ in shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldChange:
    """A table's part of a changeset, which could not be merged yet. `lacking`: see `held`."""

    dot: Dot
    change: TableChange
    lacking: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRange:
    """What is held of a table that is not attached at the sender."""

    cluster: str
    vector: Mapping[Site, Head]
    table: str
    after: int | None
    upto: int | None
    floor: int
    changes: tuple[HeldChange, ...]
    sender: bytes

    @property
    def newest(self) -> int:
        """The largest stamp in it."""
        stamps = [head.stamp for head in self.vector.values()] + [held.dot.stamp for held in self.changes]
        return max(stamps, default=0)


def encode_range(found: TableRange) -> bytes:
    """The range's bytes."""
    return pack(
        (
            FORM,
            found.cluster,
            _ROWS,
            plain_vector(found.vector),
            found.table,
            found.after,
            found.upto,
            found.floor,
            found.key,
            found.counters,
            tuple(found.sites.items()),
            found.ended,
            tuple((group.cells, group.rows) for group in found.plain),
            tuple((group.cells, group.rows) for group in found.changed),
            tuple(found.counts.items()),
            found.sender,
        )
    )


def encode_held(
    *,
    cluster: str,
    vector: Mapping[Site, Head],
    table: str,
    after: int | None,
    upto: int | None,
    floor: int,
    changes: Sequence[tuple[str, int, bool, bytes]],
    sender: bytes,
) -> bytes:
    """The bytes of what is held: `changes` are site, stamp, lacking and body, as they are stored."""
    return pack((FORM, cluster, _HELD, plain_vector(vector), table, after, upto, floor, tuple(changes), sender))


def plain_vector(vector: Mapping[Site, Head]) -> tuple[tuple[str, int, bytes, bytes], ...]:
    """A vector as msgpack takes it."""
    return tuple((site, head.stamp, head.digest, head.run) for site, head in sorted(vector.items()))


def parse_vector(value: object) -> dict[Site, Head]:
    """What `plain_vector` was given. Raises Malformed."""
    found: dict[Site, Head] = {}
    for one in listed(value, at_most=SITES_MAX):
        name, stamp, digest, run = listed_of(one, 4)
        found[site(name)] = Head(stamp=stamp_of(stamp), digest=data(digest, size=DIGEST_BYTES), run=run_name(run))
    return found


def run_name(value: object) -> bytes:
    """The name of a run, or UNKNOWN. Raises Malformed."""
    return UNKNOWN if value == UNKNOWN else data(value, size=RUN_BYTES)


def stamp_of(value: object) -> Stamp:
    """A stamp. Raises Malformed."""
    return Stamp(whole(value, low=0, high=STAMP_MAX))


def listed_of(value: object, count: int) -> list[Any] | tuple[Any, ...]:
    """A list of so many. Raises Malformed."""
    found = listed(value, at_most=count)
    if len(found) != count:
        raise Malformed(f"not a list of {count}")
    return found


def decode_range(encoded: bytes) -> TableRange | HeldRange:
    """The range that the bytes are. Raises ChangesetError, and nothing else, if they are none."""
    try:
        return _decoded(unpacked(encoded, bytes_max=CHANGESET_MAX_BYTES))
    except Malformed as error:
        raise ChangesetError(f"not a range of state: {error}") from error


def parse_key(value: object) -> Key:
    """The values of a key. Raises ChangesetError."""
    if not isinstance(value, list | tuple) or not value:
        raise ChangesetError("not a key")
    check_values(tuple(value))
    return tuple(value)


def _decoded(fields: Any) -> TableRange | HeldRange:
    if not isinstance(fields, tuple) or len(fields) < 10 or type(fields[0]) is not int:
        raise Malformed("too few fields")
    if fields[0] != FORM:
        raise ChangesetError(f"a range of form {fields[0]}, and only form {FORM} is known; upgrade litecast")
    cluster = text(fields[1], at_most=NAME_MAX)
    vector = parse_vector(fields[3])
    table = name(fields[4])
    floor = whole(fields[7], low=0, high=LIFE_MAX)
    if fields[2] == _HELD and len(fields) == 10:
        return HeldRange(
            cluster=cluster,
            vector=vector,
            table=table,
            after=None if fields[5] is None else whole(fields[5], low=0, high=INT64_MAX),
            upto=None if fields[6] is None else whole(fields[6], low=0, high=INT64_MAX),
            floor=floor,
            changes=tuple(_held(one, table) for one in listed(fields[8], at_most=_ITEMS_MAX)),
            sender=run_name(fields[9]),
        )
    if fields[2] != _ROWS or len(fields) != 16:
        raise Malformed("neither rows nor what is held")
    key = distinct_names(fields[8])
    if not key:
        raise Malformed("a key without columns")
    sites = _sites(fields[10])
    found = TableRange(
        cluster=cluster,
        vector=vector,
        table=table,
        after=None if fields[5] is None else parse_key(fields[5]),
        upto=None if fields[6] is None else parse_key(fields[6]),
        floor=floor,
        key=key,
        counters=distinct_names(fields[9]),
        sites=sites,
        ended=_rows(fields[11], len(key) + 3),
        plain=tuple(_group(one, len(key), 1) for one in listed(fields[12], at_most=_ITEMS_MAX)),
        changed=tuple(_group(one, len(key), 3) for one in listed(fields[13], at_most=_ITEMS_MAX)),
        counts=_counts(fields[14]),
        sender=run_name(fields[15]),
    )
    _check(found)
    return found


def _held(one: object, table: str) -> HeldChange:
    origin, stamp, lacking, body = listed_of(one, 4)
    change = decode_table(data(body))
    if change.table != table:
        raise Malformed("held for another table")
    return HeldChange(dot=Dot(stamp_of(stamp), site(origin)), change=change, lacking=flag(lacking))


def _sites(value: object) -> dict[int, Site]:
    found: dict[int, Site] = {}
    for one in listed(value, at_most=SITES_MAX):
        number, origin = listed_of(one, 2)
        found[whole(number, low=0, high=2**32 - 1)] = site(origin)
    return found


def _rows(value: object, width: int) -> tuple[tuple[Any, ...], ...]:
    rows = listed(value, at_most=_ITEMS_MAX)
    if rows and (set(map(type, rows)) != {tuple} or set(map(len, rows)) != {width}):
        raise Malformed(f"not rows of {width} values")
    return tuple(rows)


def _group(one: object, key_size: int, per_cell: int) -> StateGroup:
    """`per_cell`: how many values stand for a cell, itself among them."""
    cells, rows = listed_of(one, 2)
    names = distinct_names(cells)
    return StateGroup(cells=names, rows=_rows(rows, key_size + 3 + per_cell * len(names)))


def _counts(value: object) -> dict[str, Sequence[tuple[int, int, int, int]]]:
    found: dict[str, Sequence[tuple[int, int, int, int]]] = {}
    for one in listed(value, at_most=_ITEMS_MAX):
        counter, shares = listed_of(one, 2)
        found[name(counter)] = _rows(shares, 4)
    return found


def _check(found: TableRange) -> None:
    """Raises Malformed or ChangesetError unless each column of each group holds what it should."""
    size = len(found.key)
    keys: set[Key] = set()
    count = 0
    for rows, cells, alive in (
        (found.ended, 0, False),
        *((group.rows, len(group.cells), True) for group in (*found.plain, *found.changed)),
    ):
        if not rows:
            continue
        columns = list(zip(*rows, strict=True))
        for column in (*columns[:size], *columns[size + 3 : size + 3 + cells]):
            check_values(column)
        check_lives(columns[size], alive=alive)
        dots = [columns[size + 1 : size + 3], *_pairs(columns[size + 3 + cells :])]
        for stamps, numbers in dots:
            _check_dots(stamps, numbers, found.sites)
        keys.update(zip(*columns[:size], strict=True))
        count += len(rows)
    if len(keys) != count:
        raise Malformed(f"a key of table {found.table!r} occurs twice")
    alive_count = count - len(found.ended)
    for shares in found.counts.values():
        if shares:
            rows_at, numbers, stamps, values = zip(*shares, strict=True)
            _check_whole(rows_at, alive_count - 1)
            _check_dots(stamps, numbers, found.sites)
            check_counts(values)
            if len(set(zip(rows_at, numbers, strict=True))) != len(shares):
                raise Malformed("a share of a counter occurs twice")


def _pairs(columns: list[tuple[Any, ...]]) -> Iterator[tuple[Any, Any]]:
    return zip(columns[::2], columns[1::2], strict=True)


def _check_dots(stamps: tuple[Any, ...], numbers: tuple[Any, ...], sites: Mapping[int, Site]) -> None:
    _check_whole(stamps, STAMP_MAX)
    if set(map(type, numbers)) != {int} or not set(numbers) <= sites.keys():
        raise Malformed("a site that has no name")


def _check_whole(column: tuple[Any, ...], most: int) -> None:
    if set(map(type, column)) != {int} or min(column) < 0 or max(column) > most:
        raise Malformed(f"not integers from 0 to {most}")
