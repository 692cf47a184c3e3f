"""`litecast drift`, against a small web server that answers as a node does."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app import cli
from cluster.security import Secret, derive_admin_token
from replication.drift import DriftReport
from replication.measuring.mending import ClusterRepair
from replication.measuring.repairing import NodeRepair, TableRepair
from tests.unit.app.web.reports import DRIFT_REPORT, DRIFT_REPORT_WITH_ROWS, EQUAL_REPORT, UNKNOWN_REPORT

SECRET = "a secret of some forty characters or so.."

type Node = tuple[str, list[tuple[str, str]]]
"""Its URL, and the path and the authorization of each request."""
type StartNode = Callable[..., Node]


@pytest.fixture
def start_node() -> Iterator[StartNode]:
    with ExitStack() as stack:

        def start(content: object, status: int = 200) -> Node:
            asked: list[tuple[str, str]] = []

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    asked.append((self.path, self.headers.get("authorization", "")))
                    self.answer()

                def do_POST(self) -> None:
                    body = self.rfile.read(int(self.headers["content-length"])).decode()
                    asked.append((f"{self.path} {body}", self.headers.get("authorization", "")))
                    self.answer()

                def answer(self) -> None:
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(json.dumps(content).encode())

                def log_message(self, format: str, *args: object) -> None:
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}", asked

        yield start


@pytest.mark.parametrize(("report", "status"), [(EQUAL_REPORT, 0), (DRIFT_REPORT, 1), (UNKNOWN_REPORT, 2)])
def test_the_exit_status_is_the_verdict(
    start_node: StartNode, capsys: pytest.CaptureFixture[str], report: DriftReport, status: int
) -> None:
    url, _ = start_node(report.as_json())
    assert cli.main(["drift", "--url", url]) == status
    assert cli.main(["drift", "--url", url, "--json"]) == status
    assert DriftReport.from_json(json.loads(capsys.readouterr().out.split("\n{", 1)[-1].join(("{", "")))) == report


def test_people_see_how_many_rows_differ_and_how_far_counters_are_apart(
    start_node: StartNode, capsys: pytest.CaptureFixture[str]
) -> None:
    url, _ = start_node(DRIFT_REPORT.as_json())
    cli.main(["drift", "--url", url])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["page_counts", "drift", "2", "count", "41"] in lines
    assert ["notes", "equal", "0", "-"] in lines
    assert ["events", "drift", "many", "-"] in lines
    assert ["not", "compared", "delta:", "it", "is", "down"] in lines


def test_rows_are_listed_with_what_differs_on_each_node(
    start_node: StartNode, capsys: pytest.CaptureFixture[str]
) -> None:
    url, asked = start_node(DRIFT_REPORT_WITH_ROWS.as_json())
    assert cli.main(["drift", "--url", url, "--rows"]) == 1
    assert asked[0][0] == "/api/drift?rows=1"
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for expected in (
        "page_counts 'home'",
        "alpha count 42",
        "beta count 1",
        "gamma has no such row",
        "page_counts x'0001', 7",
        "alpha title NULL",
        "gamma title 'x'",
    ):
        assert expected in lines


def test_the_secret_of_the_environment_or_of_a_file_makes_the_token(
    start_node: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = start_node(EQUAL_REPORT.as_json())
    file = tmp_path / "config.toml"
    file.write_text(f'[bus]\nsecret = "{SECRET}"\n[cluster]\nname = "books"\n')
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET)
    secret_file.chmod(0o600)
    assert cli.main(["drift", "--url", url]) == 0
    assert cli.main(["drift", "--url", url, "--config", str(file)]) == 0
    monkeypatch.setenv("LITECAST_BUS__SECRET_FILE", str(secret_file))
    assert cli.main(["drift", "--url", url]) == 0
    tokens = [authorization for _, authorization in asked]
    assert tokens == [
        "",
        f"Bearer {derive_admin_token(Secret(SECRET), 'books')}",
        f"Bearer {derive_admin_token(Secret(SECRET), 'litecast')}",
    ]


def test_the_token_is_another_one_for_another_cluster_or_secret() -> None:
    tokens = {derive_admin_token(Secret(secret * 40), name) for secret in "ab" for name in ("one", "two")}
    assert len(tokens) == 4
    assert not any(secret * 40 in token for token in tokens for secret in "ab")


REPAIRED = ClusterRepair(
    nodes={
        "alpha": NodeRepair(),
        "beta": NodeRepair(
            tables=(TableRepair(name="notes", found=3, left=1, why="no node that answers shows what was written"),)
        ),
    },
    lost={"gamma": "it is down"},
)


@pytest.mark.parametrize(("how", "done"), [("adopt", "adopted"), ("restore", "restored")])
def test_repair_says_what_became_of_each_nodes_rows_and_what_is_found_afterwards(
    start_node: StartNode, capsys: pytest.CaptureFixture[str], how: str, done: str
) -> None:
    url, asked = start_node({"repair": REPAIRED.as_json(), "drift": UNKNOWN_REPORT.as_json()})
    assert cli.main(["drift", "--url", url, "--repair", how]) == 2
    assert asked == [(f'/api/drift/repair {{"how":"{how}"}}', "")]
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:3] == [
        "alpha no damaged rows",
        f"beta notes: 2 of 3 damaged row(s) {done}; no node that answers shows what was written",
        "gamma not repaired: it is down",
    ]
    assert "verdict could not be told" in lines
    assert cli.main(["drift", "--url", url, "--json", "--repair", how]) == 2
    found = json.loads(capsys.readouterr().out)
    assert ClusterRepair.from_json(found["repair"]) == REPAIRED
    assert DriftReport.from_json(found["drift"]) == UNKNOWN_REPORT


def test_repair_without_a_word_names_the_choice_and_changes_nothing(
    start_node: StartNode, capsys: pytest.CaptureFixture[str]
) -> None:
    url, asked = start_node({})
    assert cli.main(["drift", "--url", url, "--repair"]) == 2
    said = capsys.readouterr().err
    assert "--repair adopt" in said
    assert "--repair restore" in said
    assert asked == []


@pytest.mark.parametrize(
    ("answers", "posted"),
    [(["what?", "restore"], ['/api/drift/repair {"how":"restore"}']), (["nothing"], []), ([""], [])],
)
def test_repair_without_a_word_asks_on_a_terminal(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch, answers: list[str], posted: list[str]
) -> None:
    url, asked = start_node(DRIFT_REPORT_WITH_ROWS.as_json())
    given = iter(answers)
    monkeypatch.setattr("builtins.input", lambda _question: next(given))
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    assert cli.main(["drift", "--url", url, "--repair"]) == 2
    assert [path for path, _ in asked] == ["/api/drift?rows=1", *posted]


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        ({"error": "this needs the admin token"}, 401, "says: this needs the admin token"),
        ({"no": "report"}, 200, "is not a Litecast node of this version"),
        ([], 200, "is not a Litecast node of this version"),
        ({"detail": "x"}, 404, "is not a Litecast node of this version"),
    ],
)
def test_whatever_keeps_it_from_being_told_is_one_line_and_status_2(
    start_node: StartNode, capsys: pytest.CaptureFixture[str], content: object, status: int, said: str
) -> None:
    url, _ = start_node(content, status)
    assert cli.main(["drift", "--url", url]) == 2
    error = capsys.readouterr().err
    assert error.startswith("litecast: ")
    assert said in error
    assert error.count("\n") == 1


def test_a_node_that_does_not_answer_is_not_drift(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["drift", "--url", "127.0.0.1:1"]) == 2
    assert cli.main(["drift", "--config", str(tmp_path / "none.toml")]) == 2
    assert capsys.readouterr().err.count("litecast: ") == 2
