"""Programs that write by statement through the node beside them: real nodes in this process, real sockets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from app.web.admin import AdminGate
from app.web.answers import http_error
from app.web.server import WebServer, bind
from app.web.writes import StatementsApi
from cluster.lease.boot_clock import boot_clock_s
from litecast import PrimaryAsgi
from replication.acknowledging.levels import Ack, Sure
from replication.errors import (
    CannotConfirm,
    CannotForward,
    ConstraintFailed,
    DuplicateRow,
    NoPrimary,
    NotConfirmed,
    NotVisibleYet,
    OutcomeUnknown,
    QueryFailed,
)
from replication.file_position import FilePosition
from replication.middleware import token
from replication.middleware.node_file import NodeFileWriter, NodeSays
from replication.middleware.received import POSITION
from replication.middleware.statements import BODY_MAX_BYTES, NotAStatement, PrimaryStatements, statements_token
from replication.primary.forwarding import Timeouts
from tests.support.primary_nodes import Member, PrimaryCluster
from tests.support.programs import NOWHERE, served_asgi

KEY = b"k" * 32
NO_REQUESTS = (
    b"",
    b"[]",
    b"{}",
    b'{"statements": []}',
    b'{"statements": 1, "wait": true}',
    b'{"statements": [1], "wait": true}',
    b'{"statements": [["DELETE", 1]], "wait": true}',
    b'{"statements": [["DELETE", [[]]]], "wait": true}',
    b'{"statements": [["DELETE", [{"base64": "%"}]]], "wait": true}',
    b'{"statements": [["DELETE", []]], "wait": 1}',
    b'{"statements": [["DELETE", []]], "wait": true, "ack": 1}',
    b"[" * 100_000,
    b" " * (BODY_MAX_BYTES + 1),
)
INSERT = "INSERT INTO users (email, visits) VALUES (?, ?)"


class Served:
    """The node's page for statements, alone."""

    def __init__(self, member: Member) -> None:
        api = StatementsApi(member.repo, AdminGate(statements_token(KEY)))
        route = Route("/api/statements", api.post, methods=["POST"])
        from starlette.exceptions import HTTPException

        self._asgi = Starlette(routes=[route], exception_handlers={HTTPException: http_error})

    @property
    def asgi(self) -> ASGIApp:
        return self._asgi

    def stop(self) -> None:
        """Nothing is endless."""


class Beside:
    """What a program beside one node has: its file, and what the node says."""

    def __init__(self, member: Member, url: str) -> None:
        self.member = member
        self.url = url
        self.statements = PrimaryStatements(member.repo.path)
        self.says(url)

    def says(self, url: str, key: bytes = KEY) -> None:
        says = NodeSays(
            node=self.member.node.name,
            region="here",
            url=url,
            primary="a",
            good_until_s=0.0,
            key=key,
            is_secret=True,
            hold_s=1.0,
            visible_s=1.0,
        )
        NodeFileWriter(self.member.repo.path).tell(says, awake_s=boot_clock_s())

    async def run(self, *statements: Any, wait: bool = True) -> list[int]:
        return await asyncio.to_thread(self.statements.statements, statements, wait=wait)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[PrimaryCluster]:
    found = PrimaryCluster(tmp_path)
    found.timeouts = Timeouts(hold_s=0.3, call_s=1.0, visible_s=0.3)
    try:
        yield found
    finally:
        await found.close()


@contextlib.asynccontextmanager
async def beside(member: Member) -> AsyncIterator[Beside]:
    server = WebServer(Served(member), bind("127.0.0.1", 0))
    await server.start()
    try:
        yield Beside(member, server.url)
    finally:
        await server.stop()


async def test_statements_on_a_replica_are_one_transaction_on_the_primary_and_can_be_read_here_at_once(
    cluster: PrimaryCluster,
) -> None:
    a, b, _ = await cluster.trio()
    async with beside(b) as program, beside(a) as at_primary:
        assert await program.run((INSERT, ("x@x", 1)), (INSERT, ("y@x", 2))) == [1, 1]
        assert b.rows() == [(1, "x@x", 1), (2, "y@x", 2)]
        with pytest.raises(DuplicateRow):
            await program.run((INSERT, ("z@x", 1)), (INSERT, ("x@x", 1)))
        assert await at_primary.run(("UPDATE users SET visits = :n WHERE email = :e", {"n": 7, "e": "x@x"})) == [1]
        assert await asyncio.to_thread(program.statements.execute, "DELETE FROM users WHERE id = 2") == 1
    assert a.rows() == b.rows() == [(1, "x@x", 7)]


async def test_each_value_arrives_as_it_was(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    rows = [(None, 2**63 - 1), ("text\0é", -0.5), (b"\0\xff", -(2**63))]
    async with beside(b) as program:
        await program.run(*((INSERT, row) for row in rows))
        with pytest.raises(NotAStatement, match="a set has no form"):
            await program.run((INSERT, ({1}, 1)))
        with pytest.raises(CannotForward, match="64 bits"):
            await program.run((INSERT, (2**63, 1)))
    await cluster.equal()
    assert [row for _, *row in a.rows()] == [list(row) for row in rows]


async def test_what_is_refused_is_raised_as_by_the_repo_on_each_node(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    refused = {
        "SELECT 1": CannotForward,
        "PRAGMA user_version = 3": CannotForward,
        "ATTACH 'x' AS y": CannotForward,
        "CREATE TABLE t (a)": CannotForward,
        "INSERT INTO nothing VALUES (1)": QueryFailed,
        "INSERT INTO users (visits) VALUES (NULL)": ConstraintFailed,
    }
    async with beside(a) as at_primary, beside(b) as program:
        for one in (at_primary, program):
            for sql, error in refused.items():
                with pytest.raises(error):
                    await one.run(sql)


async def test_without_a_primary_or_without_a_node_nothing_is_written(cluster: PrimaryCluster, tmp_path: Path) -> None:
    b = await cluster.start("b", candidate=False)
    async with beside(b) as program:
        with pytest.raises(NoPrimary) as raised:
            await program.run((INSERT, ("x@x", 1)))
        assert raised.value.waited_s == 0.3
        program.says(NOWHERE)
        with pytest.raises(NoPrimary, match="does not answer"):
            await program.run((INSERT, ("x@x", 1)))
    with pytest.raises(NoPrimary, match="no node in mode primary ever ran"):
        PrimaryStatements(tmp_path / "other.db").execute("DELETE FROM users")


async def test_what_cannot_be_read_here_in_time_is_told_with_its_position(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    async with beside(b) as program:
        await program.run((INSERT, ("x@x", 1)))
        b.replication.abandon()  # it merges nothing any more
        with pytest.raises(NotVisibleYet) as raised:
            await program.run((INSERT, ("y@x", 1)))
        assert raised.value.result == [1]
        assert await program.run((INSERT, ("z@x", 1)), wait=False) == [1]
    assert len(a.rows()) == 3


async def test_a_program_is_told_that_a_write_is_not_as_sure_as_its_nodes_writes_are_to_be(
    cluster: PrimaryCluster,
) -> None:
    a, b, _ = await cluster.trio()
    await cluster.kill("c")
    cluster.members["b"].repo.sure = Sure(level=Ack.ALL, timeout_s=0.3)
    async with beside(b) as program:
        await program.run((INSERT, ("x@x", 1)))
        a.confirming.cast_from = lambda peer, message: True  # type: ignore[method-assign]
        with pytest.raises(NotConfirmed, match="on all 1 nodes that are up, and is on 0") as raised:
            await program.run((INSERT, ("y@x", 1)))
        assert raised.value.result == [1]
    assert len(a.rows()) == 2


async def test_a_program_says_of_each_write_how_sure_it_is_to_be(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    b.repo.sure = Sure(level=Ack.LOCAL, timeout_s=0.3)
    async with beside(b) as program:
        write = program.statements.execute
        assert await asyncio.to_thread(write, INSERT, ("x@x", 1), ack="quorum") == 1
        a.confirming.cast_from = lambda peer, message: True  # type: ignore[method-assign]
        assert await asyncio.to_thread(write, INSERT, ("y@x", 1)) == 1
        with pytest.raises(NotConfirmed, match="on 1 more of 3 nodes, and is on 0") as raised:
            await asyncio.to_thread(write, INSERT, ("z@x", 1), ack=Ack.QUORUM)
        assert raised.value.result == [1]
        with pytest.raises(CannotConfirm, match="'most' is none of"):
            await asyncio.to_thread(write, INSERT, ("no@x", 1), ack="most")
    assert [email for _, email, _ in await cluster.equal()] == ["x@x", "y@x", "z@x"]


async def test_only_who_can_read_the_nodes_file_may_write(cluster: PrimaryCluster) -> None:
    b = await cluster.start("b", candidate=False)
    async with beside(b) as program, httpx.AsyncClient(base_url=program.url) as client:
        answer = await client.post("/api/statements", json={"statements": []})
        assert answer.status_code == 401
        program.says(program.url, key=b"another")
        with pytest.raises(OutcomeUnknown, match="status 401"):
            await program.run((INSERT, ("x@x", 1)))


async def test_what_is_no_request_is_told(cluster: PrimaryCluster) -> None:
    b = await cluster.start("b", candidate=False)
    headers = {"authorization": f"Bearer {statements_token(KEY)}", "content-type": "application/json"}
    async with beside(b) as program, httpx.AsyncClient(base_url=program.url) as client:
        for body in NO_REQUESTS:
            answer = await client.post("/api/statements", content=body, headers=headers)
            assert answer.status_code in (400, 413), body[:100]
            assert "error" in answer.json()


async def test_a_websocket_and_a_large_body_on_a_replica_are_written_by_statement(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    async with beside(b) as program:

        async def chat(socket: WebSocket) -> None:
            await socket.accept()
            async for text in socket.iter_text():
                await asyncio.to_thread(program.statements.execute, INSERT, (text, 1))
                await socket.send_json([email for _, email, _ in await asyncio.to_thread(_rows, b)])

        async def post(request: Request) -> Response:
            await asyncio.to_thread(program.statements.execute, INSERT, (request.query_params["email"], 1))
            return Response()

        routes = [WebSocketRoute("/chat", chat), Route("/users", post, methods=["POST"])]
        app = PrimaryAsgi(Starlette(routes=routes), database=b.repo.path, forwards=False)
        with served_asgi(app) as url:
            async with httpx.AsyncClient() as poster:
                answer = await poster.post(f"{url}/users?email=0@x", content=b"x" * 2_000_000)
            assert answer.status_code == 200
            position = token.parse(answer.headers[POSITION], KEY)
            assert FilePosition(a.repo.path).has_reached(position)
            assert FilePosition(b.repo.path).has_reached(position)
            async with connect(url.replace("http", "ws") + "/chat") as client:
                await client.send("x@x")
                assert json.loads(await client.recv()) == ["0@x", "x@x"]
    assert [email for _, email, _ in a.rows()] == ["0@x", "x@x"]


def _rows(member: Member) -> list[Any]:
    """In another thread than the test's."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(member.repo.path)) as connection:
        return connection.execute("SELECT id, email, visits FROM users ORDER BY id").fetchall()
