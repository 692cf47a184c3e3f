"""What the node does, for Prometheus.

The numbers are read from the node when they are asked for: nothing is kept twice. Causes are labels and not names, so
that a cause that is new needs no new metric.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.report import NodeView
from app.standing import StatusOf
from replication.backup.status import BackupStatus
from replication.convergent.status import ReplicationStatus, Tally
from replication.engine.comparing import Verdict
from replication.measuring.watching import Measured
from replication.primary.standing import Role

STATES = ("connecting", "up", "suspect", "down")


class PageViews:
    """How requests to count a view ended: counted, refused (nothing was counted), unknown."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter({"counted": 0, "refused": 0, "unknown": 0})

    def ended(self, outcome: str) -> None:
        """Note one more."""
        self.outcomes[outcome] += 1


class NodeCollector(Collector):
    """The metrics of one node."""

    def __init__(
        self,
        node: NodeView,
        *,
        mode: str,
        views: PageViews,
        ready: Callable[[], bool],
        status: StatusOf | None,
        drift: Callable[[], Measured | None],
        streams: Callable[[], int],
    ) -> None:
        self._node = node
        self._mode = mode
        self._views = views
        self._ready = ready
        self._status = status
        self._drift = drift
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        """One family of samples after the other."""
        node = self._node
        info = GaugeMetricFamily(
            "litecast_node_info", "This node; always 1.", labels=["node", "region", "incarnation", "mode"]
        )
        info.add_metric([node.name, node.region, node.incarnation, self._mode], 1)
        yield info

        yield GaugeMetricFamily("litecast_ready", "1 if database, replication and bus are up.", value=self._ready())

        states = Counter(str(member.state) for member in node.members() if member.name != node.name)
        peers = GaugeMetricFamily("litecast_peers", "Known peers by state.", labels=["state"])
        for state in STATES:
            peers.add_metric([state], states[state])
        yield peers

        bus = CounterMetricFamily("litecast_bus_events", "What the bus did and dropped, by cause.", labels=["cause"])
        for cause, count in node.counters.snapshot().items():
            bus.add_metric([cause], count)
        yield bus

        views = CounterMetricFamily(
            "litecast_page_views", "Requests to count a view, by how they ended.", labels=["outcome"]
        )
        for outcome, count in self._views.outcomes.items():
            views.add_metric([outcome], count)
        yield views

        yield GaugeMetricFamily("litecast_live_streams", "Browsers that watch the live page.", value=self._streams())

        if self._status is not None:
            yield from _replication(self._status())
        if (measured := self._drift()) is not None:
            yield from _drift(measured)


def _replication(status: ReplicationStatus) -> Iterator[Metric]:
    """How replication stands, in modes convergent and primary."""
    if status.role:
        role = GaugeMetricFamily("litecast_role", "In mode primary: 1 for this node's role.", labels=["role"])
        for one in Role:
            role.add_metric([one.value], status.role == one.value)
        yield role
        yield GaugeMetricFamily("litecast_epoch", "The newest epoch that is known here.", value=status.epoch)
        yield GaugeMetricFamily("litecast_tails", "Changesets of epochs that are over, kept here.", value=status.tails)
    events = CounterMetricFamily("litecast_replication_events", "What replication did, by kind.", labels=["kind"])
    # Also those that never happened: else the first of them would not show as an increase.
    for kind in Tally.__slots__:
        events.add_metric([kind], status.counts.get(kind, 0))
    yield events

    behind = GaugeMetricFamily(
        "litecast_replication_behind", "Sites of which a peer has something that is not merged here.", labels=["peer"]
    )
    for peer, sites in status.behind.items():
        behind.add_metric([peer], sites)
    yield behind

    for name, about, value in (
        ("ready", "1 if replication has joined and has no problem.", status.ready),
        ("problem", "1 if replication stands still; /api/cluster says why.", bool(status.problem)),
        ("catching_up", "1 while a peer is asked for what is missing here.", status.catching_up is not None),
        ("notes", "Things that a person should look at; /api/cluster has them.", len(status.notes)),
        ("waiting", "Changesets that came and wait for others.", status.waiting),
        ("waiting_bytes", "The bytes of those.", status.waiting_bytes),
        ("sites", "Sites of which something is merged here.", status.sites),
    ):
        yield GaugeMetricFamily(f"litecast_replication_{name}", about, value=value)
    if status.backup is not None:
        yield from _backup(status.backup)


def _backup(status: BackupStatus) -> Iterator[Metric]:
    """How the backup stands, where there is one."""
    events = CounterMetricFamily(
        "litecast_backup_events", "What was uploaded, made one and removed, by kind.", labels=["kind"]
    )
    for kind, count in status.counts.items():
        events.add_metric([kind], count)
    yield events
    for name, about, value in (
        ("problem", "1 if nothing can be uploaded; /api/cluster says why.", bool(status.problem)),
        (
            "keeping_problem",
            "1 if it is not kept as it should be, or something is missing.",
            bool(status.keeping_problem),
        ),
        ("lacking", "Sites of which something here could not be restored from the bucket.", status.lacking),
        ("age_seconds", "For how long the oldest of that has been here.", status.age_s),
        ("journal_used_ratio", "How much of what the journal keeps that takes; at 1 it is lost.", status.journal_used),
    ):
        yield GaugeMetricFamily(f"litecast_backup_{name}", about, value=value)


def _drift(measured: Measured) -> Iterator[Metric]:
    """What was found when the nodes were compared last."""
    report = measured.report
    yield GaugeMetricFamily(
        "litecast_drift_measured_timestamp_seconds", "When the nodes were compared last.", value=measured.at_s
    )
    verdict = GaugeMetricFamily(
        "litecast_drift_verdict", "1 for what was found: equal, drift, or unknown.", labels=["verdict"]
    )
    for one in Verdict:
        verdict.add_metric([one.value], report.verdict is one)
    yield verdict
    # Where too many differ to be counted there is no sample: the verdict says it.
    rows = GaugeMetricFamily("litecast_drift_rows", "Rows that differ between nodes.", labels=["table"])
    counters = GaugeMetricFamily(
        "litecast_drift_counter", "Largest minus smallest, added up over rows.", labels=["table", "column"]
    )
    for table in report.tables:
        if table.rows_differing is not None:
            rows.add_metric([table.name], table.rows_differing)
        for column, spread in table.counters.items():
            counters.add_metric([table.name, column], spread)
    yield rows
    yield counters


def registry(collector: NodeCollector) -> CollectorRegistry:
    """A registry of its own with the node's metrics and those of the process."""
    made = CollectorRegistry(auto_describe=False)
    made.register(collector)
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def exposition(made: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics as text, and their content type, in the format that the `Accept` header asks for."""
    encode, content_type = choose_encoder(accept)
    return encode(made), content_type
