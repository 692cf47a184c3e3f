"""Replicas that share a volume: who gets which folder, also after kill -9."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.config import load_config
from app.errors import ConfigError
from app.slots import LOCK_FILE, SLOTS_MAX, SlotError, claim_slot, claimed

ROOT = Path(__file__).parents[3]
# Claims a slot, says which, and lives until its standard input ends.
REPLICA = "import sys; from pathlib import Path; from app.slots import claim_slot; "
REPLICA += "print(claim_slot(Path(sys.argv[1])).name, flush=True); sys.stdin.read()"

type Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that claims a slot in `tmp_path`."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", REPLICA, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def name_of(replica: subprocess.Popen[str]) -> str:
    assert replica.stdout is not None
    return replica.stdout.readline().strip()


def kill(replica: subprocess.Popen[str]) -> None:
    replica.send_signal(signal.SIGKILL)
    replica.wait(10)


def test_processes_that_start_at_once_never_share_a_folder(start: Start) -> None:
    replicas = [start() for _ in range(4)]
    assert {name_of(replica) for replica in replicas} == {"node-1", "node-2", "node-3", "node-4"}


def test_killed_replica_gets_its_folder_back_when_it_is_started_again(start: Start, tmp_path: Path) -> None:
    replicas = {name_of(replica): replica for replica in (start(), start(), start())}
    (tmp_path / "node-2" / "litecast.db").write_text("what the second one had")
    kill(replicas["node-2"])
    name = name_of(start())
    assert name == "node-2"
    assert (tmp_path / name / "litecast.db").read_text() == "what the second one had"


def test_replica_that_is_added_takes_the_lowest_free_number(start: Start) -> None:
    replicas = {name_of(replica): replica for replica in (start(), start(), start())}
    kill(replicas["node-1"])
    kill(replicas["node-3"])
    assert [name_of(start()) for _ in range(3)] == ["node-1", "node-3", "node-4"]


def test_released_slot_is_free(tmp_path: Path) -> None:
    with claim_slot(tmp_path) as first, claim_slot(tmp_path) as second:
        assert (first.number, second.number) == (1, 2)
        assert second.path == tmp_path / "node-2"
    with claim_slot(tmp_path) as again:
        assert again.name == "node-1"


def test_shared_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    with claim_slot(tmp_path / "a" / "b") as slot:
        assert slot.path == tmp_path / "a" / "b" / "node-1"
        assert (slot.path / LOCK_FILE).exists()


def test_claim_is_not_handed_on_to_programs_that_the_node_starts(tmp_path: Path) -> None:
    with claim_slot(tmp_path) as slot:
        assert not os.get_inheritable(slot.descriptor)


def test_file_in_the_place_of_the_folder_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("")
    with pytest.raises(SlotError, match=r"\[node\] slots_dir .*shared: .* cannot be claimed .*; name a folder that"):
        claim_slot(tmp_path / "shared")


def test_search_ends_where_no_lock_is_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.slots._lock", lambda path: None)
    with pytest.raises(SlotError, match=f"all {SLOTS_MAX} parts are taken"):
        claim_slot(tmp_path)


def test_claimed_folder_is_data_directory_name_and_place_of_the_database(tmp_path: Path) -> None:
    config = load_config(None, {"LITECAST_NODE__SLOTS_DIR": str(tmp_path), "LITECAST_NODE__REGION": "here"})
    with claim_slot(tmp_path), claimed(config) as settled:
        assert (settled.node.name, settled.node.region) == ("node-2", "here")
        assert settled.node.data_dir == tmp_path / "node-2"
        assert settled.database.path == tmp_path / "node-2" / "litecast.db"
        assert settled.http == config.http


def test_without_slots_dir_the_settings_stay_as_they_are() -> None:
    config = load_config(None, {})
    with claimed(config) as settled:
        assert settled is config


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LITECAST_NODE__NAME", "alpha"), ("LITECAST_NODE__DATA_DIR", "/srv"), ("DATABASE_PATH", "/srv/a.db")],
)
def test_what_the_slot_decides_cannot_be_given_beside_it(variable: str, value: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"SLOTS_DIR is given, .* decides .*: remove environment variable {variable}"
    ):
        load_config(None, {"LITECAST_NODE__SLOTS_DIR": "/data", variable: value})


def test_variable_makes_the_file_s_name_and_paths_give_way_to_the_slot(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('node = {name = "alpha", data_dir = "alpha"}\ndatabase.path = "/srv/a.db"')
    config = load_config(file, {"LITECAST_NODE__SLOTS_DIR": str(tmp_path / "nodes")})
    with claimed(config) as settled:
        assert settled.node.name == "node-1"
        assert settled.database.path == tmp_path / "nodes" / "node-1" / "litecast.db"


def test_what_the_platform_says_gives_way_to_the_slot() -> None:
    config = load_config(None, {"LITECAST_NODE__SLOTS_DIR": "/data", "FLY_MACHINE_ID": "683d314fdd4d68"})
    assert config.node.slots_dir == Path("/data")
