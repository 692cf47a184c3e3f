"""What may be found when nodes are compared."""

from replication.drift import DriftReport, RowDrift, TableDrift
from replication.engine.comparing import Verdict
from replication.measuring.watching import Measured

_NODES = ("alpha", "beta", "gamma")

EQUAL_REPORT = DriftReport(
    verdict=Verdict.EQUAL,
    nodes=_NODES,
    tables=(
        TableDrift(name="page_counts", verdict=Verdict.EQUAL, nodes=_NODES, rows_differing=0, counters={"count": 0}),
    ),
)
DRIFT_REPORT = DriftReport(
    verdict=Verdict.DRIFT,
    nodes=_NODES,
    tables=(
        TableDrift(name="page_counts", verdict=Verdict.DRIFT, nodes=_NODES, rows_differing=2, counters={"count": 41}),
        TableDrift(name="notes", verdict=Verdict.EQUAL, nodes=_NODES, rows_differing=0),
        TableDrift(name="events", verdict=Verdict.DRIFT, nodes=_NODES, rows_differing=None),
    ),
    unreachable={"delta": "it is down"},
    reason="page_counts: 2 rows differ; count by 41; events: rows differ",
)
DRIFT_REPORT_WITH_ROWS = DriftReport(
    verdict=Verdict.DRIFT,
    nodes=_NODES,
    tables=(
        TableDrift(
            name="page_counts",
            verdict=Verdict.DRIFT,
            nodes=_NODES,
            rows_differing=2,
            counters={"count": 41},
            rows=(
                RowDrift(
                    key=("home",),
                    nodes={
                        "alpha": {"count": 42, "title": "Home\udcff"},
                        "beta": {"count": 1, "title": "Home\udcff"},
                        "gamma": None,
                    },
                ),
                RowDrift(
                    key=(b"\x00\x01", 7),
                    nodes={"alpha": {"count": 1, "title": None}, "gamma": {"count": 1, "title": "x"}},
                ),
            ),
        ),
    ),
    reason="page_counts: 2 rows differ; count by 41",
)
UNKNOWN_REPORT = DriftReport(
    verdict=Verdict.UNKNOWN,
    nodes=("alpha", "beta"),
    tables=(
        TableDrift(
            name="page_counts", verdict=Verdict.EQUAL, nodes=("alpha", "beta"), rows_differing=0, counters={"count": 0}
        ),
    ),
    unreachable={"gamma": "it is down"},
    reason="gamma did not answer (it is down)",
)
DRIFTED = Measured(report=DRIFT_REPORT, at_s=1_700_000_000.5)
EQUAL = Measured(report=EQUAL_REPORT, at_s=1_700_000_000.5)
