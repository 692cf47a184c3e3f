"""Having all nodes mend their damaged rows, or exchange all that they have, on one node's word."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from replication.engine import received
from replication.measuring.asking import ask_one
from replication.measuring.looking import Cluster, asked_and_lost, from_all
from replication.measuring.questions import AskExchange, AskRepair, Repair
from replication.measuring.repairing import NodeRepair

REPAIR_DEADLINE_S: Final = 600.0
"""Every table of every node is read twice at least."""
_NODES_MAX: Final = 10_000
_TEXT_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRepair:
    """What became of each node's damage, and why nothing is known of some."""

    nodes: Mapping[str, NodeRepair] = field(default_factory=dict[str, NodeRepair])
    lost: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def found(self) -> int:
        """Rows that were damaged, on all nodes together."""
        return sum(table.found for node in self.nodes.values() for table in node.tables)

    @property
    def left(self) -> int:
        """Those of them that still are."""
        return sum(table.left for node in self.nodes.values() for table in node.tables)

    def as_json(self) -> dict[str, Any]:
        """For `--json`, and what `from_json` reads."""
        return {"nodes": {name: node.plain() for name, node in self.nodes.items()}, "unreachable": dict(self.lost)}

    @classmethod
    def from_json(cls, value: object) -> "ClusterRepair":
        """What `as_json` gave. Raises Malformed."""
        nodes, lost = received.fields(value, "nodes", "unreachable")
        return cls(
            nodes={name: NodeRepair.parse(node) for name, node in received.mapped(nodes, at_most=_NODES_MAX).items()},
            lost={
                name: received.text(why, at_most=_TEXT_MAX)
                for name, why in received.mapped(lost, at_most=_NODES_MAX).items()
            },
        )


async def repair_all(node: Cluster, how: Repair, *, until_s: float) -> ClusterRepair:
    """Asks every member to mend its rows, and waits until they have. Never raises for what one did or did not do."""
    asked, lost = asked_and_lost(node)
    found, silent = await from_all(
        asked, lambda name: ask_one(node, name, AskRepair(how=how), NodeRepair.parse, until_s=until_s)
    )
    return ClusterRepair(nodes=found, lost=lost | silent)


async def exchange_all(node: Cluster, *, until_s: float) -> dict[str, str]:
    """Has every member merge all that its peers have, and waits until they have: why some did not."""
    asked, lost = asked_and_lost(node)

    def parse(value: object) -> tuple[str, ...]:
        return tuple(received.name(peer) for peer in received.listed(value, at_most=_NODES_MAX))

    _, silent = await from_all(asked, lambda name: ask_one(node, name, AskExchange(), parse, until_s=until_s))
    return lost | silent
