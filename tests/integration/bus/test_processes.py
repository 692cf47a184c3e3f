"""Real processes: killed, stopped and continued, and ended in order."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from cluster.address import Address, parse_address
from cluster.counters import Count
from cluster.membership import PeerState
from tests.support.clusters import ZeroMqHarness
from tests.support.eventually import WITHIN_S, eventually

ROOT = Path(__file__).parents[3]


class Other:
    """A node in another process, and what it printed."""

    def __init__(self, process: asyncio.subprocess.Process, address: Address) -> None:
        self.process = process
        self.address = address
        self.lines: list[str] = []

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().strip())


@asynccontextmanager
async def other_process(name: str, *peers: Address, bind: str = "127.0.0.1:0") -> AsyncIterator[Other]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.support.bus_process", name, bind, *map(str, peers)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    reading: asyncio.Task[None] | None = None
    try:
        first = (await asyncio.wait_for(process.stdout.readline(), WITHIN_S)).decode().split()
        other = Other(process, parse_address(first[1]))
        reading = asyncio.ensure_future(other.read())
        yield other
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


async def test_killed_process_is_noticed_within_a_second(sockets: ZeroMqHarness) -> None:
    a = await sockets.start("a")
    async with other_process("b", a.node.address) as b:
        await eventually(a.node.peers)
        call = asyncio.ensure_future(a.node.call("b", "recorder", "hello"))
        assert await call == "hello"
        b.signal(signal.SIGKILL)
        await eventually(lambda: a.news("b") == ["up", "down"], within_s=1.0)
        assert a.state_of("b") is PeerState.DOWN


async def test_process_that_takes_the_place_of_a_killed_one_is_heard(sockets: ZeroMqHarness) -> None:
    a = await sockets.start("a")
    async with other_process("b", a.node.address) as b:
        await eventually(a.node.peers)
        b.signal(signal.SIGKILL)
        await b.process.wait()
        a.node.cast("b", "recorder", "for the dead")
        async with other_process("b", bind=str(b.address)) as again:  # it is told of nobody
            await eventually(lambda: a.news("b")[-1] == "up" and len(a.news("b")) == 3)
            assert await a.node.call("b", "recorder", "hello") == "hello"
            a.node.cast("b", "recorder", "for the living")
            await eventually(lambda: "cast a for the living" in again.lines)
            assert again.lines == ["up a", "cast a for the living"]


async def test_hanging_process_is_suspect_then_down_and_comes_back(
    sockets: ZeroMqHarness, caplog: pytest.LogCaptureFixture
) -> None:
    a = await sockets.start("a")
    async with other_process("b", a.node.address) as b:
        await eventually(lambda: a.node.peers() and "up a" in b.lines)
        states: list[PeerState | None] = []

        def down() -> bool:
            state = a.state_of("b")
            if not states or states[-1] is not state:
                states.append(state)
            return state is PeerState.DOWN

        b.signal(signal.SIGSTOP)
        await eventually(down)
        assert states[-2:] == [PeerState.SUSPECT, PeerState.DOWN]
        a.node.cast("b", "recorder", "while it hangs")
        assert a.count(Count.NO_PEER) == 1
        b.signal(signal.SIGCONT)
        await eventually(lambda: a.state_of("b") is PeerState.UP and len(a.news("b")) == 3)
        await eventually(lambda: b.lines[-1] == "up a" and b.lines.count("down a") == 1)
        assert await a.node.call("b", "recorder", "hello") == "hello"
    assert "accept our keys" not in caplog.text


async def test_process_that_hangs_briefly_blames_nobody(sockets: ZeroMqHarness) -> None:
    """Its own loop stood still, so that everybody seems silent to it; and it is suspect for a moment at most."""
    a = await sockets.start("a")
    async with other_process("b", a.node.address) as b:
        await eventually(lambda: a.node.peers() and "up a" in b.lines)
        b.signal(signal.SIGSTOP)
        await eventually(lambda: a.state_of("b") is PeerState.SUSPECT)
        b.signal(signal.SIGCONT)
        await eventually(lambda: a.state_of("b") is PeerState.UP)
        assert await a.node.call("b", "recorder", "hello") == "hello"
        assert a.news("b") == ["up"]
        assert b.lines == ["up a"]


async def test_process_that_is_asked_to_end_says_goodbye_and_ends(sockets: ZeroMqHarness) -> None:
    a = await sockets.start("a")
    async with other_process("b", a.node.address) as b:
        await eventually(a.node.peers)
        b.signal(signal.SIGTERM)
        await eventually(lambda: a.news("b") == ["up", "down"], within_s=1.0)
        assert await asyncio.wait_for(b.process.wait(), 2.0) == 0
