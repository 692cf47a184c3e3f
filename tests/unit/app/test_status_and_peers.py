"""`litecast status` and `litecast peers`, against a small web server that answers as a node does."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app import cli
from app.node_client import url_of
from cluster.address import Address
from tests.unit.app.web.statuses import UPLOADING

CLUSTER = {
    "node": {"name": "alpha", "region": "ams", "incarnation": "b7"},
    "mode": "naive",
    "peers": [
        {"name": "beta", "region": "lhr", "address": "tcp://127.0.0.1:7401", "state": "up"},
        {"name": None, "region": None, "address": "tcp://127.0.0.1:7402", "state": "connecting"},
    ],
    "counters": {"cast_sent": 12, "mailbox_full": 3},
}

REPLICATION = {
    "site": "5" * 32,
    "ready": False,
    "joined": True,
    "problem": "merging stands still: disk full",
    "sites": 3,
    "behind": {"beta": 2, "gamma": 0},
    "waiting": 7,
    "waiting_bytes": 700,
    "catching_up": {"peer": "beta", "changesets": 1200, "bytes": 3_100_000, "rows": 0, "part": "journal"},
    "notes": ["not replicated: table [t] has no key", "beta has another schema of shop"],
    "schemas": {"shop": "0a1b2c3d", "notes": "11223344"},
    "schemas_of_peers": {"beta": {"shop": "ffffffff"}},
    "counts": {"merged": 41},
}
WELL = REPLICATION | {
    "ready": True,
    "problem": "",
    "behind": {"beta": 0},
    "waiting": 0,
    "catching_up": None,
    "notes": [],
}

type StartNode = Callable[..., str]


@pytest.fixture
def start_node() -> Iterator[StartNode]:
    """Starts a server that answers `/api/cluster` and `/readyz` as it is told to, and gives its URL."""
    with ExitStack() as stack:

        def start(*, cluster: object = CLUSTER, ready: int = 200, status: int = 200) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    found = self.path == "/api/cluster"
                    self.send_response(status if found else ready)
                    self.end_headers()
                    self.wfile.write(json.dumps(cluster).encode() if found else b"{}")

                def log_message(self, format: str, *args: object) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


def test_status_shows_who_where_and_what_was_counted(start_node: StartNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--url", start_node()]) == 0
    text = capsys.readouterr().out
    for expected in ("alpha (ams)", "naive", "1 of 2 up", "cast_sent", "12", "mailbox_full"):
        assert expected in text


def test_status_for_programs_is_what_the_node_said(start_node: StartNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json", "--url", start_node()]) == 0
    assert json.loads(capsys.readouterr().out) == CLUSTER | {"ready": True}


def test_status_of_a_node_that_is_not_ready_is_1(start_node: StartNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json", "--url", start_node(ready=503)]) == 1
    assert json.loads(capsys.readouterr().out)["ready"] is False


def test_status_says_how_replication_stands(start_node: StartNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--url", start_node(cluster=CLUSTER | {"replication": REPLICATION}, ready=503)]) == 1
    text = capsys.readouterr().out
    for expected in (
        "behind beta by 2 site(s); 7 changeset(s) wait for others; journal from beta: 1,200 changesets, 3.1 MB",
        "merging stands still: disk full",
        "not replicated: table [t] has no key",
        "beta has another schema of shop",
        "notes 11223344, shop 0a1b2c3d",
        "5" * 32,
    ):
        assert expected in text
    assert "gamma" not in text
    assert [line.split() for line in text.splitlines() if "merged" in line] == [["merged", "41"]]


def test_status_of_replication_that_is_well_is_one_line(
    start_node: StartNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--url", start_node(cluster=CLUSTER | {"replication": WELL})]) == 0
    text = capsys.readouterr().out
    assert "has merged all that its peers have" in text
    assert not any(word in text for word in ("problem", "note ", "wait", "behind"))


def test_status_without_replication_does_not_speak_of_it(
    start_node: StartNode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--url", start_node()]) == 0
    assert "replication" not in capsys.readouterr().out


def test_peers_are_a_table_for_people_and_json_for_programs(
    start_node: StartNode, capsys: pytest.CaptureFixture[str]
) -> None:
    url = start_node()
    assert cli.main(["peers", "--url", url]) == 0
    _, beta, unnamed = capsys.readouterr().out.splitlines()
    assert beta.split() == ["beta", "lhr", "tcp://127.0.0.1:7401", "up"]
    assert unnamed.split() == ["-", "-", "tcp://127.0.0.1:7402", "connecting"]
    assert cli.main(["peers", "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out) == {"peers": CLUSTER["peers"]}


def test_name_of_a_peer_is_not_taken_for_markup(start_node: StartNode, capsys: pytest.CaptureFixture[str]) -> None:
    peer = {"name": "[red]x[/red]", "region": "r", "address": "a", "state": "up"}
    assert cli.main(["peers", "--url", start_node(cluster=CLUSTER | {"peers": [peer]})]) == 0
    assert "[red]x[/red]" in capsys.readouterr().out


def test_node_is_found_by_its_configuration_file(
    start_node: StartNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[http]\nbind = "{start_node().removeprefix("http://")}"\n')
    assert cli.main(["status", "--config", str(file)]) == 0
    assert "alpha" in capsys.readouterr().out


def test_node_that_does_not_answer_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["peers", "--url", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.startswith("litecast: no node answers at http://127.0.0.1:1 (")


@pytest.mark.parametrize("url", ["http://", "http://[", "ftp://x", "http://127.0.0.1:99999999"])
def test_url_that_is_none_is_one_line_and_status_1(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--url", url]) == 1
    assert capsys.readouterr().err.startswith(f"litecast: no node answers at {url} (")


@pytest.mark.parametrize(
    ("cluster", "status"), [({}, 200), ([], 200), ("text", 200), ({"node": 1}, 200), (CLUSTER, 404)]
)
def test_something_else_than_a_node_is_said_to_be_that(
    start_node: StartNode, capsys: pytest.CaptureFixture[str], cluster: object, status: int
) -> None:
    assert cli.main(["status", "--url", start_node(cluster=cluster, status=status)]) == 1
    assert "is not a Litecast node" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        (Address("127.0.0.1", 8080), "http://127.0.0.1:8080"),
        (Address("0.0.0.0", 80), "http://127.0.0.1:80"),
        (Address("*", 80), "http://127.0.0.1:80"),
        (Address("::", 80), "http://[::1]:80"),
        (Address("fdaa::3", 80), "http://[fdaa::3]:80"),
    ],
)
def test_node_is_asked_where_its_web_server_listens(bind: Address, url: str) -> None:
    assert url_of(bind) == url


def test_how_the_backup_stands_is_shown_with_what_the_journal_is_about_to_lose(
    start_node: StartNode, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(**other: object) -> str:
        backup = replace(UPLOADING, **other).as_json()  # type: ignore[arg-type]
        url = start_node(cluster=CLUSTER | {"mode": "convergent", "replication": WELL | {"backup": backup}})
        assert cli.main(["backup", "status", "--url", url]) == bool(other.get("problem"))
        return capsys.readouterr().out

    assert "journal" not in shown()
    late = shown(problem="the store is down", journal_used=0.834)
    assert "the store is down" in late
    assert "what is lacking takes 83% of what the journal keeps" in late
