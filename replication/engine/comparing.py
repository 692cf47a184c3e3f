"""Comparing what nodes hold, by their digests. Pure.

Of each bucket of each table one of three things is found:

- *equal*: all nodes have the same sums, in the columns that both of two nodes have. It does not matter then what
  either of them has merged.
- *different*: two nodes have different sums, and each covers all that was written into the other's bucket. Merging is
  a join: who has merged the same has the same, so no delivery will make these two equal. That is drift.
- *untold*: they differ, and one may only be behind. Later it will be told.

Where nothing is attached there are no vectors, and what differs is different.

What databases held before they were attached is counted under one site without a head, GENESIS, whatever baseline it
came with. So in a table with counters two nodes are only told apart when they have merged the same baselines."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import combinations

from replication.engine.coverage import Coverage
from replication.engine.digests import Digest, TableDigest


class Verdict(StrEnum):
    """What is known."""

    EQUAL = "equal"
    DRIFT = "drift"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableComparison:
    """One table. A bucket that is named neither in `differing` nor in `untold` is equal on all `nodes`."""

    nodes: frozenset[str]
    """Nodes whose rows were compared."""
    absent: Mapping[str, str]
    """The others, each with the reason why its rows could not be."""
    buckets: int
    differing: Mapping[int, frozenset[str]]
    """The nodes that are unequal to some other one."""
    untold: Mapping[int, frozenset[str]]
    uneven: frozenset[str] = frozenset()
    """Columns that not every node has; compared among those that do."""

    @property
    def verdict(self) -> Verdict:
        """DRIFT if any bucket differs. UNKNOWN if any is untold, or a node has nothing to compare."""
        if self.differing:
            return Verdict.DRIFT
        return Verdict.UNKNOWN if self.untold or self.absent else Verdict.EQUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All tables of all nodes."""

    nodes: frozenset[str]
    tables: Mapping[str, TableComparison] = field(default_factory=dict[str, TableComparison])

    @property
    def verdict(self) -> Verdict:
        """Of all tables."""
        return worst(table.verdict for table in self.tables.values())

    def after(self, earlier: "Comparison") -> "Comparison":
        """What both together say: what cannot be told now is what it was `earlier`, of the same nodes and tables.

        So while somebody writes, a few comparisons tell of every bucket that it was equal at some moment.
        """
        tables: dict[str, TableComparison] = {}
        for name, now in self.tables.items():
            before = earlier.tables.get(name)
            if before is None or (before.nodes, before.buckets) != (now.nodes, now.buckets):
                tables[name] = now
                continue
            still = {bucket: nodes for bucket, nodes in now.untold.items() if bucket in before.untold}
            known = {bucket: before.differing[bucket] for bucket in now.untold if bucket in before.differing}
            tables[name] = replace(now, untold=still, differing={**now.differing, **known})
        return replace(self, tables=tables)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """DRIFT if any is; else UNKNOWN if any is; else EQUAL."""
    found = set(verdicts)
    return next((one for one in (Verdict.DRIFT, Verdict.UNKNOWN) if one in found), Verdict.EQUAL)


def compare(digests: Mapping[str, Digest]) -> Comparison:
    """Each table of the nodes' digests, by node. Two nodes or more; with one, all is equal."""
    names = dict.fromkeys(name for one in digests.values() for name in (*one.tables, *one.absent))
    return Comparison(nodes=frozenset(digests), tables={name: _compare_table(name, digests) for name in names})


def _compare_table(name: str, digests: Mapping[str, Digest]) -> TableComparison:
    absent = {
        node: one.absent.get(name, "the table was not asked for")
        for node, one in digests.items()
        if name not in one.tables
    }
    found = {node: one.tables[name] for node, one in digests.items() if name in one.tables}
    if any(table.attached for table in found.values()):
        absent |= {node: "the table is not attached" for node, table in found.items() if not table.attached}
    comparable = {node: table for node, table in found.items() if node not in absent}
    key = next((table.key for table in comparable.values()), ())
    absent |= {node: "the table has another primary key" for node, table in comparable.items() if table.key != key}
    buckets = min((table.buckets for table in found.values()), default=1)
    tables = {node: table.coarser(buckets) for node, table in comparable.items() if node not in absent}
    differing: dict[int, set[str]] = {}
    untold: dict[int, set[str]] = {}
    for one, other in combinations(tables, 2):
        merged = digests[one].coverage, digests[other].coverage
        for bucket in _unequal(tables[one], tables[other]):
            told = _is_told(tables[one], tables[other], merged, bucket)
            (differing if told else untold).setdefault(bucket, set()).update((one, other))
    columns = [frozenset(table.columns) for table in tables.values()]
    return TableComparison(
        nodes=frozenset(tables),
        absent=absent,
        buckets=buckets,
        differing={bucket: frozenset(nodes) for bucket, nodes in sorted(differing.items())},
        untold={bucket: frozenset(nodes) for bucket, nodes in sorted(untold.items()) if bucket not in differing},
        uneven=frozenset[str]().union(*columns) - frozenset.intersection(*columns) if columns else frozenset(),
    )


def _unequal(one: TableDigest, other: TableDigest) -> list[int]:
    pairs = [(one.rows, other.rows), (one.keys, other.keys)]
    pairs += [(sums, other.columns[column]) for column, sums in one.columns.items() if column in other.columns]
    found: set[int] = set()
    for mine, theirs in pairs:
        if mine != theirs:
            found.update(bucket for bucket in range(one.buckets) if mine[bucket] != theirs[bucket])
    return sorted(found)


def _is_told(one: TableDigest, other: TableDigest, merged: tuple[Coverage, Coverage], bucket: int) -> bool:
    mine, theirs = merged
    if bucket in one.pending or bucket in other.pending:
        return False
    if (one.counters or other.counters) and not mine.same_baselines(theirs):
        return False
    return _is_covered(one, mine, theirs, bucket) and _is_covered(other, theirs, mine, bucket)


def _is_covered(table: TableDigest, merged: Coverage, elsewhere: Coverage, bucket: int) -> bool:
    """Whether all that was written into a bucket, where this is merged, is merged elsewhere."""
    written = (*table.anywhere.items(), *table.bucket_sites.get(bucket, {}).items())
    return all(elsewhere.has(site, stamp, of=merged) for site, stamp in written)


def bucket_groups(
    table: TableComparison, digests: Mapping[str, Digest], name: str, *, rows_max: int
) -> list[list[int]]:
    """The differing buckets, in groups whose rows one can look at together: on no node more than `rows_max`, unless a
    single bucket has more."""
    tables = [digests[node].tables[name].coarser(table.buckets) for node in table.nodes]
    groups: list[list[int]] = []
    size = rows_max
    for bucket in table.differing:
        rows = max(one.rows[bucket] for one in tables)
        if size + rows > rows_max:
            groups.append([])
            size = 0
        groups[-1].append(bucket)
        size += rows
    return groups
