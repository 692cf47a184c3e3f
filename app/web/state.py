"""What the JSON API and the live page say about the cluster, as plain values."""

from collections.abc import Sequence

from app.report import NodeReport, NodeView, drift, pages_by_count
from app.standing import StatusOf
from app.web.drift import live_drift
from replication.measuring.watching import Measured


def cluster_summary(node: NodeView, mode: str, status: StatusOf | None = None, program: str = "") -> dict[str, object]:
    """The answer of `GET /api/cluster`: this node, its mode, its peers and what it counted by cause. `program`: where
    the program beside it is reached, empty if nobody said.

    In mode convergent, `replication` says how that stands here.
    """
    summary: dict[str, object] = {
        "node": {"name": node.name, "region": node.region, "incarnation": node.incarnation, "program": program},
        "mode": mode,
        "peers": [
            {
                "name": member.name,
                "region": member.region,
                "address": str(member.address),
                "state": str(member.state),
            }
            for member in node.members()
            if member.name != node.name
        ],
        "counters": node.counters.snapshot(),
    }
    if status is not None:
        summary["replication"] = status().as_json()
    return summary


def live_state(
    node: NodeView, mode: str, reports: Sequence[NodeReport], measured: Measured | None, *, at_ms: int
) -> dict[str, object]:
    """One event of the live page: every node with its counters, every page with each node's count and the drift.

    `drift` is what was found when all tables were compared last; null if they never were. A page's own `drift` is that
    of the counts beside it, which are newer.

    A count is null where it is not known. A node's `replication` is null in the modes that have none. A page's drift
    compares the nodes that answered and are not down.
    """
    return {
        "at": at_ms,
        "node": node.name,
        "region": node.region,
        "mode": mode,
        "drift": live_drift(measured),
        "nodes": [
            {
                "name": report.name,
                "region": report.region,
                "address": report.address,
                "state": report.state,
                "self": report.itself,
                "stale": report.stale,
                "known_at": None if report.at_s is None else int(report.at_s * 1000),
                "counters": dict(report.counters),
                "replication": None if report.replication is None else report.replication.plain(),
            }
            for report in reports
        ],
        "pages": [
            {
                "page": page,
                "counts": [report.count(page) for report in reports],  # in the order of `nodes`
                "drift": drift(reports, page),
            }
            for page in pages_by_count(reports)
        ],
    }
