"""No metric is undocumented, and none is documented that there is not."""

import re
from dataclasses import replace
from pathlib import Path

from app.metrics import NodeCollector, PageViews
from cluster.counters import Count
from tests.unit.app.web.fakes import FakeCluster
from tests.unit.app.web.reports import DRIFTED
from tests.unit.app.web.statuses import LATE, UPLOADING

OPERATIONS = Path(__file__).parents[4] / "docs/operations.md"


def test_every_metric_of_ours_is_documented(cluster: FakeCluster) -> None:
    text = OPERATIONS.read_text()
    node = cluster.nodes["alpha"]
    node.counters.increment(Count.CASTS_SENT)
    collector = NodeCollector(
        node,
        mode="convergent",
        views=PageViews(),
        ready=lambda: True,
        status=lambda: replace(LATE, role="replica", backup=UPLOADING),
        drift=lambda: DRIFTED,
        streams=lambda: 0,
    )
    names = {sample.name for metric in collector.collect() for sample in metric.samples}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    assert set(re.findall(r"`(litecast_\w+)`", text)) - names == set()
