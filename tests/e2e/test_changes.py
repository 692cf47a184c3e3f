"""The change feed of real nodes over HTTP: writers at work, nodes killed and started again, and a client that goes on
with the last id that it got."""

import base64
import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.security import Secret, derive_admin_token
from tests.support.convergent_nodes import Make, cluster_of, kill, opened, settle, start, under_load
from tests.support.node_process import SECRET, NodeProcess, node_processes

TOKEN = derive_admin_token(Secret(SECRET), "litecast")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


class Client(threading.Thread):
    """Keeps a copy of a table by following the feed of a node, and connects again whenever that ends."""

    def __init__(self, node: NodeProcess, table: str) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.copy: dict[Any, dict[str, Any]] = {}
        self.last = ""
        self.connected = 0
        self.started_over = 0
        self.inserted: list[Any] = []
        self._table = table
        self._over = threading.Event()

    def run(self) -> None:
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(headers=headers, timeout=httpx.Timeout(5, read=15)) as client:
            while not self._over.wait(0.05):
                with contextlib.suppress(httpx.HTTPError):
                    self._follow(client)

    def _follow(self, client: httpx.Client) -> None:
        headers = {"last-event-id": self.last} if self.last else {}
        with client.stream("GET", f"{self.node.url}/api/changes?table={self._table}", headers=headers) as response:
            if response.status_code == 410:
                self.copy.clear()
                self.last = ""
                self.started_over += 1
            if response.status_code != 200:
                return
            self.connected += 1
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                if self._over.is_set():
                    return
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                if fields.get("event") == "change":
                    self._apply(json.loads(fields["data"]))
                self.last = fields.get("id", self.last)
                fields = {}

    def _apply(self, change: dict[str, Any]) -> None:
        (key,) = change["key"].values()
        match change["op"]:
            case "row" | "insert":
                if change["op"] == "insert":
                    self.inserted.append(key)
                self.copy[key] = change["columns"]
            case "update":
                self.copy.get(key, {}).update(change["columns"])
            case "delete":
                self.copy.pop(key, None)

    def stop(self) -> None:
        self._over.set()
        self.join(30)


def table(node: NodeProcess, name: str) -> dict[Any, dict[str, Any]]:
    with contextlib.closing(opened(node)) as file:
        cursor = file.execute(f"SELECT * FROM {name}")
        names = [column[0] for column in cursor.description]
        return {row[0]: {one: _json(value) for one, value in zip(names[1:], row[1:], strict=True)} for row in cursor}


def _json(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def test_who_follows_over_http_has_the_table_after_kills_and_restarts(make: Make, tmp_path: Path) -> None:
    a, b = cluster_of(make, "ab")
    start(a, b)
    clients = [Client(node, name) for node in (a, b) for name in ("clicks", "visits")]
    for client in clients:
        client.start()
    try:
        with under_load(tmp_path, [a, b]) as load:
            for node in (a, b, a):
                for writer in load.writers:
                    writer.until_counted(20)
                kill(node)
                load.writers[0].until_counted(20)
                node.start_and_wait()
            for client in clients[:1]:
                client.node = b  # with its position, to another node
            for writer in load.writers:
                writer.until_counted(20)
        settle([a, b])
        for client in clients:
            name = "clicks" if client in clients[::2] else "visits"
            client.node.until(lambda client=client, name=name: client.copy == table(client.node, name))  # type: ignore[misc]
            assert client.connected > 1
            assert client.started_over == 0
        for client in clients[::2]:
            assert len(client.inserted) == len(set(client.inserted)), "an insert was told twice"
    finally:
        for client in clients:
            client.stop()


def test_a_node_stops_in_order_while_it_is_followed(make: Make) -> None:
    (node,) = cluster_of(make, "a")
    node.start_and_wait()
    client = Client(node, "clicks")
    client.start()
    try:
        node.until(lambda: client.connected > 0)
        assert node.stop() < 5.0
        assert "Traceback" not in node.log
    finally:
        client.stop()


def test_mode_naive_has_no_feed_and_says_so(make: Make) -> None:
    node = make("a")
    node.start_and_wait()
    with httpx.Client(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        answer = client.get(f"{node.url}/api/changes?table=page_counts")
    assert answer.status_code == 409
    assert "only in the modes convergent and primary" in answer.json()["error"]
    node.signal(signal.SIGTERM)
    assert node.ended() == 0
