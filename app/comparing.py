"""What a node needs to be compared with others, and to compare them, made from its settings."""

from app.config import Config
from cluster.node import Node
from replication.convergent.engine import ThreadEngine
from replication.convergent.for_file import connect
from replication.convergent.replication import Replication
from replication.declared import TableDeclaration
from replication.engine.comparable import DigestTable
from replication.measuring.answering import Desk
from replication.measuring.meter import DriftMeter
from replication.measuring.reader import Reader
from replication.measuring.remaining import Remaining
from replication.measuring.watching import DriftWatch
from replication.opening import resolved


def desk_for(config: Config) -> Desk:
    """Where this node answers for its rows, whatever the mode. Opens nothing yet."""
    path = resolved(config.database.path)
    reader = Reader(lambda: connect(path), clocks=config.replication.mode.makes_changesets)
    return Desk(reader, ThreadEngine("litecast digests"))


def drift_watch(config: Config, node: Node, replication: Replication | None = None) -> DriftWatch:
    """Who compares all members, for whoever looks; those that are not forgotten, where there is replication."""
    compared = node if replication is None else Remaining(node, replication.forgotten)
    return DriftWatch(DriftMeter(compared, [_to_compare(table) for table in config.replication.tables]))


def _to_compare(table: TableDeclaration) -> DigestTable:
    return DigestTable(name=table.name, ignore=table.drift_ignore, counters=table.counters)
