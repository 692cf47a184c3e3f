"""What replicas say of each other's rows, and damage that nobody captured."""

import json
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from replication.drift import DriftReport, Row, RowDrift, report
from replication.engine.comparable import DigestTable
from replication.engine.comparing import Comparison, Verdict, bucket_groups, compare
from replication.engine.differing import Differences, differing
from replication.engine.digesting import attached_tables, digest
from replication.engine.digests import BUCKETS, Digest
from replication.engine.listing import list_rows
from replication.engine.listings import PAGE_BYTES, RowListing
from replication.engine.row_values import RowValues, read_rows
from replication.engine.stamps import Site, Stamp
from replication.engine.values import Key
from tests.support.replicas import Replica


def covered_by_all(members: Sequence[Replica]) -> dict[Site, Stamp]:
    """Up to where everybody has merged each site."""
    vectors = [member.heads() for member in members]
    everywhere = set(vectors[0]).intersection(*vectors)
    return {site: Stamp(min(vector[site].stamp for vector in vectors)) for site in everywhere}


def digest_of(member: Replica, *, covered: Mapping[Site, Stamp] | None = None, buckets_max: int = BUCKETS) -> Digest:
    """All attached tables of one replica, as another one receives it."""
    found = digest(member.engine, attached_tables(member.engine), covered=covered, buckets_max=buckets_max)
    return Digest.joined([Digest.parse(piece.plain()) for piece in found.pieces()])


def compared(members: Sequence[Replica], *, buckets_max: int = BUCKETS) -> Comparison:
    """What the replicas hold, as it is now."""
    covered = covered_by_all(members)
    return compare(
        {str(at): digest_of(one, covered=covered, buckets_max=buckets_max) for at, one in enumerate(members)}
    )


def listed(
    member: Replica,
    table: str,
    *,
    buckets: int = 1,
    numbers: Sequence[int] = (0,),
    covered: Mapping[Site, Stamp] | None = None,
    bytes_max: int = PAGE_BYTES,
    between: Callable[[], object] = lambda: None,
) -> RowListing:
    """The rows of some buckets, page by page, as another one receives them. `between` happens between two pages."""
    pages: list[RowListing] = []
    while not pages or pages[-1].upto is not None:
        page = list_rows(
            member.engine,
            DigestTable(name=table),
            buckets=buckets,
            numbers=numbers,
            after=pages[-1].upto if pages else None,
            covered=covered,
            bytes_max=bytes_max,
        )
        pages.append(RowListing.parse(page.plain()))
        between()
    return RowListing.joined(pages)


def measured(members: Sequence[Replica], *, buckets_max: int = BUCKETS, rows_max: int = 50) -> DriftReport:
    """Everything: digests, the rows of the buckets that differ, and what each node shows of these."""
    covered = covered_by_all(members)
    nodes = {str(at): member for at, member in enumerate(members)}
    digests = {node: digest_of(one, covered=covered, buckets_max=buckets_max) for node, one in nodes.items()}
    comparison = compare(digests)
    differences: dict[str, Differences] = {}
    rows: dict[str, list[RowDrift]] = {}
    for name, table in comparison.tables.items():
        for numbers in bucket_groups(table, digests, name, rows_max=20):
            listings = {
                node: listed(nodes[node], name, buckets=table.buckets, numbers=numbers, bytes_max=300)
                for node in table.nodes
            }
            found = differing(listings, rows_max=rows_max)
            before = differences.get(name)
            differences[name] = found if before is None else before.joined(found, rows_max=rows_max)
        if name in differences:
            rows[name] = shown(nodes, name, list(differences[name].rows))
    return DriftReport.from_json(
        json.loads(json.dumps(report(comparison, differences=differences, rows=rows).as_json(), allow_nan=False))
    )


def shown(nodes: Mapping[str, Replica], table: str, keys: Sequence[Key]) -> list[RowDrift]:
    """What each node shows of some rows."""
    found: dict[str, dict[Key, Row | None]] = {node: {} for node in nodes}
    for node, member in nodes.items():
        rest = tuple(keys)
        while rest:
            page = read_rows(member.engine, DigestTable(name=table), rest, bytes_max=10_000)
            page = RowValues.parse(page.plain())
            found[node].update(page.rows)
            rest = page.rest
    return [RowDrift(key=key, nodes={node: rows[key] for node, rows in found.items()}) for key in keys]


class Watch:
    """Somebody who compares replicas all the while that they are written to, by digests that are not of one moment."""

    def __init__(self, rng: random.Random, members: Sequence[Replica]) -> None:
        self._rng = rng
        self._members = members
        self._digests: dict[str, Digest] = {}
        self.verdicts: list[Verdict] = []

    def look(self) -> None:
        """Takes some digests, and compares them with what is known of the others."""
        buckets_max = self._rng.choice((1, 4, 32, BUCKETS))
        anew = self._rng.random() < 0.5
        covered = covered_by_all(self._members) if anew else None
        for at, member in enumerate(self._members):
            if anew or str(at) not in self._digests or self._rng.random() < 0.5:
                self._digests[str(at)] = digest_of(member, covered=covered, buckets_max=buckets_max)
        found = compare(self._digests)
        self.verdicts.append(found.verdict)
        assert found.verdict is not Verdict.DRIFT, found

    def list_rows(self, table: str, *, between: Callable[[], object]) -> None:
        """Lists all rows of a table everywhere, while something happens `between` two pages."""
        covered = covered_by_all(self._members) if self._rng.random() < 0.5 else None
        found = differing(
            {
                str(at): listed(member, table, covered=covered, bytes_max=100, between=between)
                for at, member in enumerate(self._members)
            }
        )
        assert not found.differing, found


@contextmanager
def uncaptured(connection: sqlite3.Connection) -> Iterator[None]:
    """What is written within is in no log."""
    enabled = sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER
    before = connection.getconfig(enabled)
    connection.setconfig(enabled, False)
    try:
        yield
    finally:
        connection.setconfig(enabled, before)
