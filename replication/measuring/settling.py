"""What several looks at the same tables say together. Pure.

Nodes are not read at one moment, so while somebody writes some buckets cannot be told: one node is ahead of another.
Those tables are looked at again, and a bucket that could be told once is told (`Comparison.after`).

Where nothing is attached there are no vectors, and a write that is on its way to a peer looks like drift. There, a
bucket differs if it differs in every one of a few looks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from replication.engine.comparable import NO_SUCH_TABLE
from replication.engine.comparing import Comparison, TableComparison, compare
from replication.engine.digests import Digest

LOOKS_WITHOUT_CLOCKS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one table, and the digests from which it is known last."""

    comparison: TableComparison
    digests: Mapping[str, Digest]


def known_after(before: Mapping[str, Known], digests: Mapping[str, Digest]) -> dict[str, Known]:
    """What is known once these digests came, of all or some of the tables, if this was known before."""
    nodes = frozenset(digests)
    earlier = Comparison(nodes=nodes, tables={name: known.comparison for name, known in before.items()})
    known = dict(before)
    for name, table in compare(digests).after(earlier).tables.items():
        if name in before and not _has_clocks(name, digests):
            table = _always(before[name].comparison, table)
        if is_nowhere(table):
            known.pop(name, None)
        else:
            known[name] = Known(comparison=table, digests=digests)
    return known


def to_look_at_again(known: Mapping[str, Known], *, looks: int) -> list[str]:
    """Tables of which more would be known after another look; so many were taken."""
    return [name for name, one in known.items() if one.comparison.untold or _may_be_on_its_way(name, one, looks)]


def is_nowhere(table: TableComparison) -> bool:
    """True if no node has the table: it is declared, and nobody has made it yet."""
    return not table.nodes and set(table.absent.values()) == {NO_SUCH_TABLE}


def _may_be_on_its_way(name: str, known: Known, looks: int) -> bool:
    return bool(known.comparison.differing) and looks < LOOKS_WITHOUT_CLOCKS and not _has_clocks(name, known.digests)


def _has_clocks(name: str, digests: Mapping[str, Digest]) -> bool:
    return any(name in digest.tables and digest.tables[name].attached for digest in digests.values())


def _always(before: TableComparison, now: TableComparison) -> TableComparison:
    """What differed both times, if both speak of the same."""
    if (before.nodes, before.buckets) != (now.nodes, now.buckets):
        return now
    return replace(now, differing={bucket: who for bucket, who in now.differing.items() if bucket in before.differing})
