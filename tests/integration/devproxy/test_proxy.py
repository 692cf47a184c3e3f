"""The entry between real sockets: fake nodes on free ports, a proxy in front of them, a client before it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from app.devproxy.pool import Pool
from app.devproxy.proxy import NO_LATENCIES, DevProxy, make_client
from app.devproxy.watch import Listed, Watch
from app.devproxy.wishes import Latencies, parse_latency
from app.web.server import WebServer, bind
from cluster.address import Address
from tests.support.eventually import eventually

DEADLINE_S = 10.0


class FakeNode:
    """A node as far as the entry can tell: it says who it is, and does with other requests what the test says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = True
        self.seen: list[str] = []
        self.answer: Callable[[Request], Awaitable[Response]] = self._echo
        self._listener = bind("127.0.0.1", 0)
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self._server = WebServer(self, self._listener)

    @property
    def asgi(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/readyz", self._get_ready),
                Route("/api/cluster", self._get_cluster),
                Route("/{rest:path}", self._any, methods=["GET", "HEAD", "POST", "PUT"]),
            ]
        )

    def stop(self) -> None:
        """Nothing here is endless but what a test makes so."""

    async def __aenter__(self) -> "FakeNode":
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    async def _get_ready(self, request: Request) -> Response:
        return Response(status_code=200 if self.ready else 503)

    async def _get_cluster(self, request: Request) -> Response:
        return JSONResponse({"node": {"name": self.name, "region": "here"}, "peers": []})

    async def _any(self, request: Request) -> Response:
        self.seen.append(f"{request.method} {request.scope['raw_path'].decode()}")
        return await self.answer(request)

    async def _echo(self, request: Request) -> Response:
        body = await request.body()
        target = request.scope["raw_path"].decode() + "?" + request.scope["query_string"].decode()
        return JSONResponse({"target": target, "body": body.decode(), "headers": dict(request.headers)})


class Entry:
    """A proxy that serves, and a client of it."""

    def __init__(self, pool: Pool, watch: Watch, server: WebServer) -> None:
        self.pool = pool
        self.watch = watch
        self.server = server
        self.client = httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=DEADLINE_S)


@asynccontextmanager
async def entry_for(
    *addresses: Address, answer_timeout_s: float = DEADLINE_S, latencies: Latencies = NO_LATENCIES
) -> AsyncIterator[Entry]:
    pool = Pool()
    async with make_client() as upstream:
        proxy = DevProxy(pool, upstream, answer_timeout_s=answer_timeout_s, latencies=latencies)
        server = WebServer(proxy, bind("127.0.0.1", 0))
        await server.start()
        entry = Entry(pool, Watch(pool, Listed(addresses), upstream), server)
        try:
            await entry.watch.look()
            yield entry
        finally:
            await entry.client.aclose()
            await server.stop()


@asynccontextmanager
async def nodes_and_entry(
    *names: str, answer_timeout_s: float = DEADLINE_S, latencies: Latencies = NO_LATENCIES
) -> AsyncIterator[tuple[list[FakeNode], Entry]]:
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(FakeNode(name)) for name in names]
        addresses = [node.address for node in nodes]
        yield (
            nodes,
            await stack.enter_async_context(
                entry_for(*addresses, answer_timeout_s=answer_timeout_s, latencies=latencies)
            ),
        )


async def test_requests_are_spread_over_the_nodes_and_each_answer_names_its_node() -> None:
    async with nodes_and_entry("alpha", "beta", "gamma") as (nodes, entry):
        served = [(await entry.client.get(f"/{n}")).headers["x-served-by"] for n in range(6)]
    assert sorted(served) == ["alpha", "alpha", "beta", "beta", "gamma", "gamma"]
    assert [len(node.seen) for node in nodes] == [2, 2, 2]


async def test_target_method_body_and_headers_arrive_as_they_were_sent() -> None:
    async with nodes_and_entry("alpha") as ((node,), entry):
        request = entry.client.build_request(
            "POST",
            "/",
            content=b"grapes",
            headers={"x-mine": "1", "cookie": "a=1", "connection": "x-gone", "x-gone": "1"},
        )
        request.extensions["target"] = b"/api/pages/a%2Fb/../%zz/views?x=%20&y"
        answer = (await entry.client.send(request)).json()
    assert node.seen == ["POST /api/pages/a%2Fb/../%zz/views"]
    assert answer["target"].endswith("?x=%20&y")
    assert answer["body"] == "grapes"
    headers = answer["headers"]
    assert headers["content-length"] == "6"
    assert headers["host"] == headers["x-forwarded-host"] == entry.client.base_url.netloc.decode()
    assert (headers["x-mine"], headers["cookie"], headers["x-forwarded-for"]) == ("1", "a=1", "127.0.0.1")
    assert "x-gone" not in headers
    assert "transfer-encoding" not in headers


async def test_body_without_a_length_goes_through_piece_by_piece() -> None:
    """The second piece is sent only after the node has read the first."""
    arrived = asyncio.Event()

    async def shout(request: Request) -> Response:
        pieces: list[bytes] = []
        async for piece in request.stream():
            pieces.append(piece)
            arrived.set()
        return Response(b"".join(pieces).upper())

    async def whisper() -> AsyncIterator[bytes]:
        yield b"one "
        async with asyncio.timeout(DEADLINE_S):
            await arrived.wait()
        yield b"two"

    async with nodes_and_entry("alpha") as ((node,), entry):
        node.answer = shout
        answer = await entry.client.put("/shout", content=whisper())
    assert answer.text == "ONE TWO"


async def test_large_response_arrives_whole_and_compressed_ones_stay_compressed() -> None:
    async def large(request: Request) -> Response:
        return Response(bytes(3_000_000), headers={"content-encoding": "identity", "etag": '"1"'})

    async with nodes_and_entry("alpha") as ((node,), entry):
        node.answer = large
        answer = await entry.client.get("/large")
    assert len(answer.content) == 3_000_000
    assert answer.headers["content-length"] == "3000000"
    assert (answer.headers["content-encoding"], answer.headers["etag"]) == ("identity", '"1"')
    assert len(answer.headers.get_list("date")) == 1


async def test_events_are_passed_on_as_they_happen_and_end_with_the_client() -> None:
    happened: asyncio.Queue[bytes] = asyncio.Queue()
    ended = asyncio.Event()

    async def events(request: Request) -> Response:
        async def stream() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield await happened.get()
            finally:
                ended.set()

        return StreamingResponse(stream(), media_type="text/event-stream")

    async with nodes_and_entry("alpha") as ((node,), entry), asyncio.timeout(DEADLINE_S):
        node.answer = events
        async with entry.client.stream("GET", "/api/live") as answer:
            pieces = answer.aiter_raw()
            for event in (b"data: 1\n\n", b"data: 2\n\n"):
                happened.put_nowait(event)
                assert await anext(pieces) == event
        await ended.wait()


async def test_entry_that_stops_ends_open_streams_at_once() -> None:
    async def events(request: Request) -> Response:
        async def stream() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(stream(), media_type="text/event-stream")

    async with nodes_and_entry("alpha") as ((node,), entry), asyncio.timeout(DEADLINE_S):
        node.answer = events
        async with entry.client.stream("GET", "/api/live") as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            began = asyncio.get_running_loop().time()
            stopped = asyncio.create_task(entry.server.stop())
            assert [piece async for piece in pieces] == []
            await stopped
            assert asyncio.get_running_loop().time() - began < 0.5


async def test_node_that_cannot_be_reached_is_skipped_and_the_next_one_asked() -> None:
    async with nodes_and_entry("alpha", "beta") as ((alpha, beta), entry):
        await alpha.__aexit__()
        served = [(await entry.client.post("/views")).headers["x-served-by"] for _ in range(4)]
        assert [backend.ready for backend in entry.pool.backends if backend.name == "alpha"] == [False]
    assert served == ["beta"] * 4
    assert len(beta.seen) == 4


async def test_request_with_a_body_reaches_the_next_node_whole() -> None:
    async with nodes_and_entry("alpha", "beta") as ((alpha, _), entry):
        await alpha.__aexit__()
        answers = [(await entry.client.post("/views", content=b"grapes")).json() for _ in range(2)]
    assert [answer["body"] for answer in answers] == ["grapes", "grapes"]


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_request_that_a_node_may_have_seen_is_not_tried_again(reply: bytes) -> None:
    """The node takes the request and dies over it."""
    taken: list[bytes] = []

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        writer.close()

    dying = await asyncio.start_server(die, "127.0.0.1", 0)
    try:
        async with FakeNode("beta") as beta, entry_for() as entry:
            broken = Address("127.0.0.1", dying.sockets[0].getsockname()[1])
            entry.pool.place([broken])
            entry.pool.is_ready(broken, name="alpha", region="here")
            entry.pool.place([broken, beta.address])
            answer = await entry.client.post("/views")
    finally:
        dying.close()
        await dying.wait_closed()
    assert answer.status_code == 502
    assert "node alpha did not answer" in answer.json()["error"]
    assert "unknown" in answer.json()["error"]
    assert len(taken) == 1
    assert beta.seen == []


async def test_node_that_takes_too_long_is_answered_with_504() -> None:
    async def never(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with nodes_and_entry("alpha", answer_timeout_s=0.1) as ((node,), entry):
        node.answer = never
        answer = await entry.client.get("/")
    assert answer.status_code == 504
    assert "did not answer in time" in answer.json()["error"]


async def test_response_that_breaks_off_is_seen_to_have_broken_off() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        writer.close()

    breaking = await asyncio.start_server(break_off, "127.0.0.1", 0)
    try:
        async with entry_for() as entry:
            address = Address("127.0.0.1", breaking.sockets[0].getsockname()[1])
            entry.pool.place([address])
            entry.pool.is_ready(address, name="alpha", region="here")
            with pytest.raises(httpx.RemoteProtocolError):
                await entry.client.get("/")
    finally:
        breaking.close()
        await breaking.wait_closed()


async def test_without_a_node_that_can_be_reached_the_answer_is_503_and_says_that_nothing_was_done() -> None:
    async with nodes_and_entry("alpha") as ((node,), entry):
        await node.__aexit__()
        first = await entry.client.post("/views")
        second = await entry.client.post("/views")
    assert [answer.status_code for answer in (first, second)] == [503, 503]
    assert first.json() == {"error": "no node can be reached; nothing was done"}
    assert second.json() == {"error": "no node is ready; nothing was done"}
    assert first.headers["retry-after"] == "1"


def replaying(value: str, node: FakeNode) -> Callable[[Request], Awaitable[Response]]:
    """Asks for a replay."""

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(status_code=409, headers={"fly-replay": value})

    node.answer = answer
    return answer


async def test_a_request_goes_on_to_whom_a_node_names_with_its_body_and_says_from_whom() -> None:
    async with nodes_and_entry("alpha", "beta") as ((alpha, beta), entry):
        replaying("instance=alpha;state=abc", beta)
        force = {"fly-force-instance-id": "beta", "fly-replay-src": "instance=forged", "fly-replay-failed": "forged"}
        answer = await entry.client.post("/views?x=1", content=b"grapes", headers=force)
    assert answer.headers["x-served-by"] == "alpha"
    assert answer.json()["body"] == "grapes"
    assert answer.json()["target"] == "/views?x=1"
    headers = answer.json()["headers"]
    source = dict(part.split("=") for part in headers["fly-replay-src"].split(";"))
    assert (source["instance"], source["region"], source["state"]) == ("beta", "here", "abc")
    assert int(source["t"]) > 1_700_000_000_000_000
    assert "fly-replay-failed" not in headers
    assert (beta.seen, alpha.seen) == (["POST /views"], ["POST /views"])


async def test_a_clients_own_word_of_a_replay_is_not_passed_on() -> None:
    async with nodes_and_entry("alpha") as (_, entry):
        answer = await entry.client.get("/", headers={"fly-replay-src": "forged", "fly-replay-failed": "forged"})
    assert not {"fly-replay-src", "fly-replay-failed"} & answer.json()["headers"].keys()


@pytest.mark.parametrize("fallback", ["force_self", "prefer_self"])
async def test_a_replay_to_who_is_not_there_comes_back_if_the_node_says_so(fallback: str) -> None:
    async with nodes_and_entry("alpha", "beta") as ((alpha, _), entry):

        async def answer(request: Request) -> Response:
            if "fly-replay-failed" in request.headers:
                return Response(request.headers["fly-replay-failed"])
            return Response(headers={"fly-replay": f"instance=gone;fallback={fallback}"})

        alpha.answer = answer
        found = await entry.client.post("/", content=b"1", headers={"fly-prefer-instance-id": "alpha"})
    assert (found.status_code, found.headers["x-served-by"]) == (200, "alpha")
    assert found.text == "instance=gone;reason=no_instance"


async def test_a_replay_to_who_is_not_there_is_503_without_a_fallback() -> None:
    async with nodes_and_entry("alpha") as ((alpha,), entry):
        replaying("instance=gone", alpha)
        answer = await entry.client.post("/")
    assert answer.status_code == 503


async def test_a_request_that_goes_round_ends() -> None:
    async with nodes_and_entry("alpha", "beta") as ((alpha, beta), entry):
        replaying("instance=beta", alpha)
        replaying("instance=alpha", beta)
        answer = await entry.client.post("/")
        assert answer.status_code == 503
        assert "goes round" in answer.json()["error"]
        replaying("instance=gone;fallback=force_self", alpha)
        again = await entry.client.post("/", headers={"fly-force-instance-id": "alpha"})
    assert again.status_code == 503
    assert "after one failed" in again.json()["error"]


async def test_a_large_body_is_passed_on_and_cannot_be_replayed() -> None:
    async with nodes_and_entry("alpha", "beta") as ((alpha, beta), entry):
        force = {"fly-force-instance-id": "alpha"}
        assert (await entry.client.post("/", content=b"x" * 1_000_001, headers=force)).status_code == 200
        replaying("instance=beta", alpha)
        answer = await entry.client.post("/", content=b"x" * 1_000_001, headers=force)
    assert answer.status_code == 413
    assert beta.seen == []


async def test_what_no_proxy_can_do_is_said_and_nothing_done() -> None:
    async with nodes_and_entry("alpha") as ((alpha,), entry):
        replaying("app=another", alpha)
        answer = await entry.client.get("/")
    assert answer.status_code == 503
    assert "names another app" in answer.json()["error"]


async def test_between_regions_it_takes_as_long_as_it_is_told_and_the_nearest_answers() -> None:
    latencies = Latencies(dict([parse_latency("here-there=300")]))
    async with nodes_and_entry("alpha", latencies=latencies) as (_, entry):
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await entry.client.get("/", headers={"fly-region": "here"})
        near_s, began_s = loop.time() - began_s, loop.time()
        await entry.client.get("/", headers={"fly-region": "there"})
        far_s = loop.time() - began_s
    assert far_s >= 0.3
    assert near_s < 0.3


async def test_node_that_is_not_ready_gets_nothing_until_it_is() -> None:
    async with nodes_and_entry("alpha", "beta") as ((alpha, beta), entry):
        alpha.ready = False
        await entry.watch.look()
        for _ in range(3):
            await entry.client.get("/")
        assert (len(alpha.seen), len(beta.seen)) == (0, 3)
        alpha.ready = True
        await entry.watch.look()
        for _ in range(2):
            await entry.client.get("/")
        assert len(alpha.seen) == 1


async def test_answer_of_a_node_to_be_busy_is_the_client_s_to_see() -> None:
    async def refuse(request: Request) -> Response:
        return JSONResponse({"error": "nothing was counted"}, 503)

    async with nodes_and_entry("alpha", "beta") as (nodes, entry):
        for node in nodes:
            node.answer = refuse
        answer = await entry.client.post("/views")
    assert answer.status_code == 503
    assert sum(len(node.seen) for node in nodes) == 1


async def test_head_has_no_body_and_the_length_of_one() -> None:
    async with nodes_and_entry("alpha") as (_, entry):
        answer = await entry.client.head("/")
    assert int(answer.headers["content-length"]) > 0
    assert answer.content == b""


async def test_client_that_leaves_in_the_middle_of_its_request_is_no_error() -> None:
    async with nodes_and_entry("alpha") as ((node,), entry):
        host, port = entry.client.base_url.host, entry.client.base_url.port
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /views HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await writer.drain()
        await eventually(lambda: node.seen)
        writer.close()
        assert (await entry.client.get("/")).status_code == 200
        reader.feed_eof()


async def test_name_that_has_no_answer_is_no_news() -> None:
    class Failing(Listed):
        async def addresses(self) -> list[Address]:
            raise socket.gaierror(-2, "Name or service not known")

    async with nodes_and_entry("alpha") as ((node,), entry), make_client() as client:
        await Watch(entry.pool, Failing([]), client).look()
        assert [backend.address for backend in entry.pool.backends] == [node.address]
        await Watch(entry.pool, Listed([]), client).look()
        assert (await entry.client.get("/")).status_code == 200
