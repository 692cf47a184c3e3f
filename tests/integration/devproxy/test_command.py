"""`litecast dev-proxy` as people start and stop it."""

import http.server
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import cli

ROOT = Path(__file__).parents[3]
LITECAST = [sys.executable, "-c", "from app.cli import main; raise SystemExit(main())", "dev-proxy"]
DEADLINE_S = 20.0
STOP_S = 2.0


class Node(http.server.BaseHTTPRequestHandler):
    """Says that it is ready, and streams events without end."""

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/api/live":
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            self.wfile.flush()
            self.rfile.read(1)  # until the entry goes away
            return
        self.end_headers()
        self.wfile.write(b'{"node": {"name": "alpha", "region": "here"}}')

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is the entry's."""


@pytest.fixture
def node() -> Iterator[str]:
    """The URL of a node."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Node) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def entry(node: str) -> Iterator[subprocess.Popen[str]]:
    """A running entry in front of that node; its log is its standard error."""
    process = subprocess.Popen(
        [*LITECAST, "--bind", "127.0.0.1:0", "--node", node], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def line_with(entry: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The next line of the log that matches."""
    assert entry.stderr is not None
    for line in entry.stderr:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the log ended without {pattern!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_it_within_two_seconds_also_with_an_open_stream(
    entry: subprocess.Popen[str], number: signal.Signals
) -> None:
    url = line_with(entry, r"entry at (\S+)")[1]
    line_with(entry, "node alpha at .* is ready")
    with httpx.stream("GET", f"{url}/api/live", trust_env=False, timeout=DEADLINE_S) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"data: 1\n\n"
        assert answer.headers["x-served-by"] == "alpha"
        began = time.monotonic()
        entry.send_signal(number)
        assert list(pieces) == []
        assert entry.wait(DEADLINE_S) == 0
        assert time.monotonic() - began < STOP_S


def test_nodes_are_found_by_name(node: str) -> None:
    port = node.rpartition(":")[2]
    process = subprocess.Popen(
        [*LITECAST, "--bind", "127.0.0.1:0", "--dns-name", "localhost", "--port", port],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = line_with(process, rf"entry at (\S+) for nodes at every address of localhost, port {port}")[1]
        line_with(process, "node alpha at 127.0.0.1:.* is ready")
        assert httpx.get(url, trust_env=False, timeout=DEADLINE_S).headers["x-served-by"] == "alpha"
    finally:
        process.kill()
        process.communicate()


def test_address_in_use_is_one_line_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main(["dev-proxy", "--bind", where, "--node", "127.0.0.1:1"]) == 1
    assert f"litecast: --bind: {where} is in use by another program; stop it, or set --bind" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--node", "https://a:1"], "--node https://a:1: nodes speak http"),
        (["--node", "http://a"], "--node http://a: "),
        (["--node", "a:1", "--port", "2"], "--port goes with --dns-name"),
        (["--dns-name", "a b"], "--dns-name a b: "),
        (["--dns-name", "*"], "no node can be reached there"),
        (["--dns-name", "a", "--port", "70000"], "70000 is not a port"),
        (["--node", "a:1", "--latency", "ams=1"], "--latency ams=1: write REGION-REGION=MS"),
        (["--bind", "nowhere", "--node", "a:1"], "--bind nowhere: "),
    ],
)
def test_argument_that_cannot_be_used_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["dev-proxy", *arguments]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_it_refuses_to_run_on_fly(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLY_APP_NAME", "shop")
    assert cli.main(["dev-proxy", "--node", "127.0.0.1:1"]) == 1
    assert "does not run on Fly" in capsys.readouterr().err


def test_it_must_be_told_where_the_nodes_are() -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["dev-proxy"])
    assert caught.value.code == 2
