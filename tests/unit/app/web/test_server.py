import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.web.live import LiveFeed, LiveLimits, encode_event
from app.web.server import HttpBindError, WebServer, bind
from tests.unit.app.web.fakes import FakeCluster, until


@pytest.fixture
async def server(cluster: FakeCluster) -> AsyncIterator[WebServer]:
    made = WebServer(cluster.web("alpha"), bind("127.0.0.1", 0))
    await made.start()
    yield made
    await made.stop()


async def states(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def test_stream_shows_counts_as_they_change(server: WebServer, cluster: FakeCluster) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        async with client.stream("GET", "/api/live") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            seen = states(response)
            assert (await anext(seen))["pages"] == []
            cluster.nodes["beta"].repo.set("home", 12)
            async for state in seen:
                if state["pages"]:
                    assert state["pages"] == [{"page": "home", "counts": [0, 12, 0], "drift": 12}]
                    break
        assert (await client.head("/api/live")).status_code == 200


async def test_nobody_is_asked_while_nobody_watches(server: WebServer, cluster: FakeCluster) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        async with client.stream("GET", "/api/live") as response:
            await anext(states(response))
        # The stream is over once the server has noticed; then its loop must be too.
        await until(lambda: not {"live feed", "event stream"} & {task.get_name() for task in asyncio.all_tasks()})


async def test_stop_with_streams_open_takes_less_than_a_second(cluster: FakeCluster) -> None:
    server = WebServer(cluster.web("alpha"), bind("127.0.0.1", 0))
    await server.start()
    loop = asyncio.get_running_loop()
    async with (
        httpx.AsyncClient(base_url=server.url) as client,
        client.stream("GET", "/api/live") as one,
        client.stream("GET", "/api/live") as two,
    ):
        seen = [states(one), states(two)]
        for each in seen:
            await anext(each)
        began = loop.time()
        await server.stop()
        assert loop.time() - began < 1.0
        # Ended in order, not cut off: reading on comes to an end without an error.
        for each in seen:
            async for _ in each:
                pass
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_client_that_reads_nothing_does_not_hold_up_the_stop(cluster: FakeCluster) -> None:
    for i in range(50):
        cluster.nodes["alpha"].repo.set(f"{i} " + "x" * 190, i + 1)
    server = WebServer(cluster.web("alpha", live=LiveLimits(interval_s=0.0001)), bind("127.0.0.1", 0))
    await server.start()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(b"GET /api/live HTTP/1.1\r\nHost: x\r\n\r\n")
        loop = asyncio.get_running_loop()
        assert server._server is not None
        connections = server._server.server_state.connections
        await until(lambda: any(isinstance(c, H11Protocol) and c.flow.write_paused for c in connections), within_s=20)
        began = loop.time()
        await server.stop()
        assert loop.time() - began < 1.0
        assert not connections


async def test_request_that_takes_too_long_is_cut_off_without_a_word(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.nodes["alpha"].repo.stuck = True
    server = WebServer(cluster.web("alpha"), bind("127.0.0.1", 0))
    await server.start()
    async with httpx.AsyncClient(base_url=server.url) as client:
        asking = asyncio.create_task(client.get("/"))
        await until(lambda: cluster.nodes["alpha"].repo.reads > 0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await server.stop()
        assert loop.time() - began < 1.0
        with pytest.raises(httpx.HTTPError):
            await asking
    assert [record.message for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


async def test_connection_that_says_nothing_does_not_hold_up_the_stop(cluster: FakeCluster) -> None:
    server = WebServer(cluster.web("alpha"), bind("127.0.0.1", 0))
    await server.start()
    host, port = server.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/pages/home/views HTTP/1.1\r\nContent-Le")
    await writer.drain()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await server.stop()
    await server.stop()
    assert loop.time() - began < 1.0
    writer.close()


async def test_too_many_streams_are_refused_and_a_place_becomes_free_again(cluster: FakeCluster) -> None:
    server = WebServer(cluster.web("alpha", live=LiveLimits(streams_max=1)), bind("127.0.0.1", 0))
    await server.start()
    async with httpx.AsyncClient(base_url=server.url) as client:
        async with client.stream("GET", "/api/live") as first:
            await anext(states(first))
            refused = await client.get("/api/live")
            assert refused.status_code == 503
            assert "live streams" in refused.json()["error"]
        await until(lambda: "live feed" not in {task.get_name() for task in asyncio.all_tasks()})
        async with client.stream("GET", "/api/live") as second:
            assert second.status_code == 200
    await server.stop()


async def test_signals_stay_with_the_node(server: WebServer) -> None:
    heard = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.set)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await heard.wait()
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/healthz")).status_code == 200
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_response_names_no_server_software(server: WebServer) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        assert "server" not in (await client.get("/healthz")).headers


async def test_feed_skips_to_the_newest_state_for_a_slow_reader() -> None:
    number = 0

    async def state() -> object:
        nonlocal number
        number += 1
        return number

    feed = LiveFeed(state, LiveLimits(interval_s=0.0001))
    async with feed.watching():
        seen, first = await feed.newer_than(0)
        await until(lambda: number >= 50)
        newest, event = await feed.newer_than(seen)
    assert (seen, first) == (1, encode_event(1))
    assert event == encode_event(newest)
    assert newest >= 49


async def test_where_changes_are_told_the_cluster_is_asked_at_once_then_and_seldom_otherwise() -> None:
    asked: list[float] = []
    change = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def state() -> object:
        asked.append(loop.time())
        return len(asked)

    feed = LiveFeed(state, LiveLimits(interval_s=0.01, idle_s=60), next_change=lambda: change)
    async with feed.watching():
        seen, _ = await feed.newer_than(0)
        await asyncio.sleep(0.1)
        assert len(asked) == 1
        told, change = change, asyncio.Event()
        told.set()
        async with asyncio.timeout(5):
            await feed.newer_than(seen)
        await asyncio.sleep(0.1)
    assert len(asked) == 2


async def test_heartbeats_go_on_while_there_is_no_state(cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].repo.stuck = True
    server = WebServer(cluster.web("alpha", live=LiveLimits(heartbeat_s=0.01)), bind("127.0.0.1", 0))
    await server.start()
    async with httpx.AsyncClient(base_url=server.url) as client, client.stream("GET", "/api/live") as response:
        comments = [line async for line in _first(response, 4)]
    await server.stop()
    assert all(line.startswith(":") for line in comments)


async def _first(response: httpx.Response, count: int) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        if line and not line.startswith("retry"):
            yield line
            count -= 1
        if count == 0:
            return


def test_port_in_use_is_one_line_with_a_remedy() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(HttpBindError) as caught:
            bind("127.0.0.1", port)
    assert "\n" not in str(caught.value)
    assert f"127.0.0.1:{port} is in use" in str(caught.value)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7", "a" * 300, "300.1.2.3", "\u2603 snow"])
def test_bad_host_is_one_line_with_a_remedy(host: str) -> None:
    with pytest.raises(HttpBindError) as caught:
        bind(host, 8080)
    assert "\n" not in str(caught.value)
    assert "use 127.0.0.1" in str(caught.value)


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
@pytest.mark.parametrize(("host", "asked"), [("::1", "[::1]"), ("::", "127.0.0.1"), ("*", "[::1]"), ("*", "127.0.0.1")])
async def test_it_serves_over_ipv6_and_ipv4(cluster: FakeCluster, host: str, asked: str) -> None:
    try:
        listener = bind(host, 0)
    except HttpBindError:
        pytest.skip("this machine has no IPv6")
    server = WebServer(cluster.web("alpha"), listener)
    await server.start()
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{asked}:{server.url.rpartition(':')[2]}/healthz")
    assert answer.status_code == 200
    await server.stop()


async def test_server_that_never_started_gives_its_port_back(cluster: FakeCluster) -> None:
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    await WebServer(cluster.web("alpha"), listener).stop()
    bind("127.0.0.1", port).close()
