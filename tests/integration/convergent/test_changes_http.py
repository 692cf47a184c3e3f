"""The change feed over HTTP, from a node's own web server."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from app.web.admin import AdminGate
from app.web.answers import http_error
from app.web.changes import ChangeLimits, ChangesApi
from app.web.server import WebServer, bind
from replication.repo import Repo
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually

TOKEN = "the admin token"
HEADERS = {"authorization": f"Bearer {TOKEN}"}
CHANGES = "/api/changes?table=pages"


class Served:
    """Nothing but the feed."""

    def __init__(self, repo: Repo, limits: ChangeLimits | None = None) -> None:
        self.api = ChangesApi(repo, AdminGate(TOKEN), limits)
        self._asgi = Starlette(
            routes=[Route("/api/changes", self.api.get, methods=["GET"])],
            exception_handlers={HTTPException: http_error},
        )

    @property
    def asgi(self) -> ASGIApp:
        return self._asgi

    def stop(self) -> None:
        self.api.stop()


@dataclass
class Running:
    member: Member
    repo: Repo
    served: Served
    server: WebServer
    client: httpx.AsyncClient


@asynccontextmanager
async def running(folder: Path, limits: ChangeLimits | None = None) -> AsyncIterator[Running]:
    cluster = ConvergentCluster(folder)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(cluster.close)
        member = await cluster.start("a")
        repo = Repo(member.path, gives_positions=True)
        repo.link = member.replication
        await stack.enter_async_context(repo)
        served = Served(repo, limits)
        server = WebServer(served, bind("127.0.0.1", 0))
        await server.start()
        stack.push_async_callback(server.stop)
        client = httpx.AsyncClient(base_url=server.url, headers=HEADERS, timeout=10)
        await stack.enter_async_context(client)
        yield Running(member, repo, served, server, client)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as found:
        yield found


@dataclass
class Event:
    name: str
    id: str
    data: Any


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


async def some(response: httpx.Response, count: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(10):
        async for event in events(response):
            found.append(event)
            if len(found) == count:
                return found
    return found


async def test_changes_come_as_events_and_go_on_after_the_last_one(node: Running) -> None:
    async with node.client.stream("GET", f"{CHANGES}&since=now") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        await node.repo.insert("pages", {"page": "home", "title": "Home"})
        (first,) = await some(response, 1)
    assert (first.name, first.data) == (
        "change",
        {
            "table": "pages",
            "op": "insert",
            "key": {"page": "home"},
            "columns": {"title": "Home", "count": 0},
            "origin": {"site": next(iter(node.repo.position.stamps)), "node": "a"},
        },
    )
    await node.repo.delete("pages", "home")
    async with node.client.stream("GET", CHANGES, headers={"last-event-id": first.id}) as response:
        (second,) = await some(response, 1)
    assert (second.data["op"], second.data["key"], second.data["columns"]) == ("delete", {"page": "home"}, {})


async def test_without_a_position_the_rows_come_first(node: Running) -> None:
    await node.repo.insert_many("pages", [{"page": f"{number:03}"} for number in range(700)])
    async with node.client.stream("GET", CHANGES) as response:
        found = await some(response, 700)
    assert {event.data["op"] for event in found} == {"row"}
    assert [event.data["key"]["page"] for event in found] == [f"{number:03}" for number in range(700)]
    async with node.client.stream("GET", CHANGES, headers={"last-event-id": found[349].id}) as response:
        rest = await some(response, 350)
    assert [event.data["key"]["page"] for event in rest] == [f"{number:03}" for number in range(350, 700)]


async def test_values_that_json_does_not_have_are_marked(node: Running) -> None:
    node.member.writer.execute("INSERT INTO pages (page, title) VALUES ('blob', x'00ff'), ('inf', 9e999)")
    node.member.writer.execute("INSERT INTO pages (page, title) VALUES ('text', CAST(x'61ff0a' AS TEXT))")
    node.member.writer.execute("INSERT INTO pages (page, title) VALUES ('lines', 'a' || char(10) || 'data: b')")
    async with node.client.stream("GET", CHANGES) as response:
        found = {event.data["key"]["page"]: event.data["columns"]["title"] for event in await some(response, 4)}
    assert found == {"blob": {"base64": "AP8="}, "inf": {"float": "inf"}, "text": "a\udcff\n", "lines": "a\ndata: b"}


async def test_only_an_admin_may_follow(node: Running) -> None:
    async with httpx.AsyncClient(base_url=node.server.url) as stranger:
        assert (await stranger.get(CHANGES)).status_code == 401


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("", 400, "which table?"),
        ("?table=notes", 404, "table notes is not attached"),
        ("?table=pages&since=yesterday", 400, "not a position"),
        ("?table=pages&since=" + "a" * 32 + ":1;g=0123456789abcdef", 410, "start over: empty your copy"),
    ],
)
async def test_what_is_wrong_with_a_request_is_answered(node: Running, query: str, status: int, said: str) -> None:
    answer = await node.client.get(f"/api/changes{query}")
    assert answer.status_code == status
    assert said in answer.json()["error"]


async def test_a_mode_without_a_feed_says_so(node: Running) -> None:
    node.repo.link = None
    answer = await node.client.get(CHANGES)
    assert answer.status_code == 409
    assert "only in the modes convergent and primary" in answer.json()["error"]


async def test_a_node_that_has_not_what_the_client_was_told_asks_it_to_wait(
    node: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.feed.feed.REACH_TIMEOUT_S", 0.05)
    answer = await node.client.get(f"{CHANGES}&since={'a' * 32}:1")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "has not merged yet" in answer.json()["error"]


async def test_a_position_moves_on_while_nothing_changes_in_the_table(tmp_path: Path) -> None:
    async with running(tmp_path, ChangeLimits(keep_alive_s=0.05)) as node:
        await node.repo.insert("pages", {"page": "home", "title": "Home"})
        await node.repo.wait_for(node.repo.position)
        heads, written = node.member.replication.durable_view, node.repo.position.stamps.items()
        await eventually(lambda: all((head := heads().vector.get(one)) and head.stamp >= at for one, at in written))
        async with node.client.stream("GET", f"{CHANGES}&since=now") as response:
            (first,) = await some(response, 1)
        assert (first.name, first.data) == ("position", {})
        await node.repo.update("pages", "home", {"title": "Home"})  # a changeset that holds nothing
        async with node.client.stream("GET", CHANGES, headers={"last-event-id": first.id}) as response:
            (second,) = await some(response, 1)
        assert second.name == "position"
        assert second.id > first.id
        async with node.client.stream("GET", CHANGES, headers={"last-event-id": second.id}) as response:
            lines = [line async for line in _lines(response, 12)]
        assert ": still here" in lines


async def _lines(response: httpx.Response, count: int) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        yield line
        count -= 1
        if count == 0:
            return


async def test_a_stream_that_cannot_go_on_ends_with_what_to_do(node: Running) -> None:
    async with node.client.stream("GET", f"{CHANGES}&since=now") as response:
        own = node.member.replication.view().site
        await node.member.replication.work(lambda store: store.close_site(own))
        found = await some(response, 9)
    assert [(event.name, event.id) for event in found] == [("start-over", "")]
    assert "start over" in found[0].data["error"]


async def test_a_client_that_does_not_read_is_cut_off_and_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, ChangeLimits(send_deadline_s=1.0)) as node:
        host, port = node.server.url.removeprefix("http://").split(":")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((host, int(port)))
            request = f"GET {CHANGES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
            deaf.sendall(request.encode())
            await eventually(lambda: node.served.api.streams == 1)
            for start in range(0, 8_000, 200):
                await node.repo.insert_many(
                    "pages", [{"page": f"{number:05}", "title": "x" * 2_000} for number in range(start, start + 200)]
                )
            await eventually(lambda: node.served.api.streams == 0)
        async with node.client.stream("GET", CHANGES) as response:
            keys = {event.data["key"]["page"] for event in await some(response, 8_000)}
        assert len(keys) == 8_000


async def test_too_many_streams_are_refused_and_a_place_becomes_free_again(tmp_path: Path) -> None:
    async with running(tmp_path, ChangeLimits(streams_max=1)) as node:
        async with node.client.stream("GET", CHANGES) as first:
            assert first.status_code == 200
            await eventually(lambda: node.served.api.streams == 1)
            refused = await node.client.get(CHANGES)
            assert refused.status_code == 503
            assert "streams of changes" in refused.json()["error"]
        await eventually(lambda: node.served.api.streams == 0)
        async with node.client.stream("GET", CHANGES) as second:
            assert second.status_code == 200


async def test_stopping_ends_streams_in_order(node: Running) -> None:
    async with node.client.stream("GET", CHANGES) as response:
        await eventually(lambda: node.served.api.streams == 1)
        began = asyncio.get_running_loop().time()
        await node.server.stop()
        assert asyncio.get_running_loop().time() - began < 1.0
        assert await some(response, 1) == []
    assert node.served.api.streams == 0


async def test_a_head_request_holds_no_stream(node: Running) -> None:
    assert (await node.client.head(CHANGES)).status_code == 200
    assert node.served.api.streams == 0
