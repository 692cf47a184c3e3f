"""How replication stands is told in mode convergent, and nowhere else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.standing import NOTES_MAX, TEXT_MAX_CHARACTERS, NoStanding, parse_standing, standing
from app.web.state import live_state
from replication.convergent.status import ReplicationStatus, Tally
from tests.unit.app.web.fakes import FakeCluster
from tests.unit.app.web.statuses import LATE, UPLOADING, WELL

OPERATIONS = Path(__file__).parents[4] / "docs/operations.md"


def client_of(cluster: FakeCluster, name: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=cluster.web(name).asgi), base_url=f"http://{name}")


async def metrics_of(cluster: FakeCluster, name: str) -> dict[str, str]:
    async with client_of(cluster, name) as client:
        text = (await client.get("/metrics")).text
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


async def live_nodes(cluster: FakeCluster, name: str) -> dict[str, Any]:
    reports = list((await cluster.report(name).beliefs()).values())
    state: Any = live_state(cluster.nodes[name], "convergent", reports, None, at_ms=0)
    return {node["name"]: node for node in state["nodes"]}


async def test_the_other_modes_say_nothing_of_replication(cluster: FakeCluster) -> None:
    async with client_of(cluster, "alpha") as client:
        assert "replication" not in (await client.get("/api/cluster")).json()
    assert not any(name.startswith("litecast_replication") for name in await metrics_of(cluster, "alpha"))
    assert {node["replication"] for node in (await live_nodes(cluster, "alpha")).values()} == {None}


async def test_api_cluster_has_the_whole_status(cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].stands(LATE)
    async with client_of(cluster, "alpha") as client:
        answer = (await client.get("/api/cluster")).json()
    assert answer["replication"] == LATE.as_json()
    assert answer["replication"]["catching_up"]["changesets"] == 1200


async def test_metrics_have_every_tally_and_how_replication_stands(cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].stands(LATE)
    found = await metrics_of(cluster, "alpha")
    assert found['litecast_replication_events_total{kind="merged"}'] == "5.0"
    assert found['litecast_replication_events_total{kind="forks"}'] == "0.0", "so that its first increase shows"
    assert {
        name: float(value)
        for name, value in found.items()
        if name.startswith("litecast_replication") and "kind" not in name
    } == {
        'litecast_replication_behind{peer="alpha"}': 2,
        'litecast_replication_behind{peer="gamma"}': 3,
        "litecast_replication_ready": 0,
        "litecast_replication_problem": 1,
        "litecast_replication_catching_up": 1,
        "litecast_replication_notes": 1,
        "litecast_replication_waiting": 7,
        "litecast_replication_waiting_bytes": 700,
        "litecast_replication_sites": 3,
    }


async def test_metrics_and_api_cluster_say_who_is_the_primary_of_which_epoch_and_what_tails_are_kept(
    cluster: FakeCluster,
) -> None:
    cluster.nodes["alpha"].stands(replace(WELL, role="replica", epoch=7, primary="beta", tails=2))
    found = await metrics_of(cluster, "alpha")
    assert {name: float(value) for name, value in found.items() if name.startswith("litecast_role")} == {
        'litecast_role{role="primary"}': 0,
        'litecast_role{role="candidate"}': 0,
        'litecast_role{role="replica"}': 1,
    }
    assert (found["litecast_epoch"], found["litecast_tails"]) == ("7.0", "2.0")
    async with client_of(cluster, "alpha") as client:
        said = (await client.get("/api/cluster")).json()["replication"]
    assert [said[name] for name in ("role", "epoch", "primary", "tails")] == ["replica", 7, "beta", 2]


async def test_the_live_page_shows_what_each_node_says_of_itself(cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].stands(WELL)
    cluster.nodes["beta"].stands(LATE)
    nodes = await live_nodes(cluster, "alpha")
    assert nodes["alpha"]["replication"]["behind"] == 0
    assert nodes["beta"]["replication"] == {
        "ready": False,
        "behind": 3,
        "waiting": 7,
        "catching_up": "journal from gamma: 1,200 changesets, 3.1 MB",
        "problem": "merging stands still: disk full",
        "notes": ["not replicated: table t has no key"],
    }
    assert nodes["gamma"]["replication"] is None


def test_a_standing_is_bounded_and_survives_the_trip() -> None:
    wordy = ReplicationStatus(
        site="7" * 32,
        ready=True,
        joined=True,
        problem="x" * 10_000,
        sites=1,
        behind={},
        waiting=0,
        waiting_bytes=0,
        catching_up=None,
        notes=("y" * 10_000,) * 100,
    )
    told = standing(wordy)
    assert (len(told.problem), len(told.notes), len(told.notes[0])) == (
        TEXT_MAX_CHARACTERS,
        NOTES_MAX,
        TEXT_MAX_CHARACTERS,
    )
    backed_up = standing(replace(LATE, backup=UPLOADING))
    assert backed_up.backup is not None
    assert (backed_up.backup.url, backed_up.backup.snapshot, backed_up.backup.age_s) == ("s3://bucket/folder", 3, 0.7)
    for one in (told, standing(LATE), standing(WELL), backed_up):
        assert parse_standing(one.plain()) == one


@pytest.mark.parametrize(
    "change",
    [
        {"ready": 1},
        {"behind": "3"},
        {"behind": True},
        {"behind": -1},
        {"waiting": 2**63},
        {"problem": None},
        {"problem": "x" * (TEXT_MAX_CHARACTERS + 1)},
        {"notes": ["x"] * (NOTES_MAX + 1)},
        {"notes": [1]},
        {"notes": "x"},
        {"backup": {}},
        {"backup": {"url": "u", "snapshot": True, "age_s": 0, "problem": "", "doing": ""}},
        {"backup": {"url": "u", "snapshot": 1, "age_s": float("nan"), "problem": "", "doing": ""}},
        {"backup": {"url": "u", "snapshot": 1, "age_s": -1, "problem": "", "doing": ""}},
        {"backup": {"url": "u" * 301, "snapshot": 1, "age_s": 0, "problem": "", "doing": ""}},
    ],
)
async def test_a_standing_that_is_none_is_not_believed(cluster: FakeCluster, change: dict[str, object]) -> None:
    lie = standing(WELL).plain() | change
    with pytest.raises(NoStanding):
        parse_standing(lie)
    cluster.nodes["beta"].answers = lambda: {"pages": {}, "complete": True, "counters": {}, "replication": lie}
    assert (await cluster.report("alpha").beliefs())["beta"].at_s is None


def test_every_count_and_field_of_replication_is_documented() -> None:
    text = OPERATIONS.read_text()
    assert [name for name in (*Tally.__slots__, *LATE.as_json()) if f"`{name}`" not in text] == []
