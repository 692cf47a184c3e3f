"""How a view ended is what the API promises, against a small server that answers as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from app.demo.traffic import Outcome, Traffic, outcome_of

type Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await answer(reader, writer)
        except (EOFError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.close()


def always(response: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)

    return answer


def response(status: str, body: bytes = b"{}") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def views(port: int, count: int = 1) -> Traffic:
    traffic = Traffic(lambda: {"alpha": port})
    try:
        for _ in range(count):
            await traffic.view("alpha", "home")
    finally:
        traffic.close()
    return traffic


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.COUNTED),
        (400, Outcome.REFUSED),
        (404, Outcome.REFUSED),
        (503, Outcome.REFUSED),
        (500, Outcome.UNKNOWN),
        (502, Outcome.UNKNOWN),
        (204, Outcome.UNKNOWN),
        (302, Outcome.UNKNOWN),
    ],
)
def test_a_status_means_what_the_api_promises(status: int, outcome: Outcome) -> None:
    assert outcome_of(status) is outcome


async def test_views_that_were_answered_with_200_are_tallied_by_page() -> None:
    async with serving(always(response("200 OK"))) as port:
        traffic = await views(port, 3)
    assert traffic.tally("home") == 3
    assert traffic.tally("other") == 0


async def test_connections_are_used_again() -> None:
    accepted = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await always(response("200 OK"))(reader, writer)

    async with serving(answer) as port:
        await views(port, 5)
    assert accepted == 1


async def test_no_connection_means_that_nothing_was_counted() -> None:
    async with serving(always(b"")) as port:
        pass
    traffic = await views(port)
    assert traffic.tally("home", Outcome.REFUSED) == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nconte", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_an_answer_that_breaks_off_or_is_none_leaves_the_view_unknown(answer: bytes) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with serving(broken) as port:
        traffic = await views(port)
    assert traffic.tally("home", Outcome.UNKNOWN) == 1


async def test_an_answer_that_does_not_come_in_time_leaves_the_view_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.demo.traffic.VIEW_TIMEOUT_S", 0.05)
    async with serving(always(b"")) as port:
        traffic = await views(port)
    assert traffic.tally("home", Outcome.UNKNOWN) == 1


async def test_views_at_once_are_on_their_way_together() -> None:
    waiting = 0
    together = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        await reader.readuntil(b"\r\n\r\n")
        waiting += 1
        if waiting == 4:
            together.set()
        await together.wait()
        writer.write(response("200 OK"))

    async with serving(answer) as port:
        traffic = Traffic(lambda: {"alpha": port})
        await traffic.prepare({"alpha": 4})
        await traffic.at_once([("alpha", "home")] * 4)
        traffic.close()
    assert traffic.tally("home") == 4


async def test_through_an_entry_each_view_names_its_node_and_connections_are_opened_for_all_of_them() -> None:
    asked: list[str] = []
    opened = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.extend(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("fly-force-instance-id"))
            writer.write(response("200 OK"))

    async with serving(answer) as port:
        traffic = Traffic(dict, entry=port)
        await traffic.prepare({"alpha": 1, "beta": 2})
        await traffic.at_once([("alpha", "home"), ("beta", "home"), ("beta", "home")])
        traffic.close()
    assert sorted(asked) == ["alpha", "beta", "beta"]
    assert opened == 3
    assert traffic.tally("home") == 3
