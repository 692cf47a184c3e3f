"""The nodes of the benchmark, one a region, with a relay between each two: started, measured, stopped."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

from app.bench.places import REGIONS, round_trip_s
from app.bench.relay import relay
from app.bench.results import Region
from app.demo.config_files import free_ports
from app.errors import AppError
from cluster.security import make_secret

START_WITHIN_S: Final = 60.0
ANSWER_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 5.0
LOCAL_READS: Final = 2_000
ACROSS: Final = 15
"""Reads and writes that go to the primary's region, in each region."""
_HOST: Final = "127.0.0.1"
_FOREIGN: Final = ("LITECAST_", "FLY_", "MY_REGION", "PRIMARY_REGION", "DATABASE_PATH")


class BenchError(AppError):
    """It could not be measured."""


async def measure(primary: str, say: Callable[[str], None]) -> list[Region]:
    """What each region's node measured, the primary's first. Ends every process that it began, also when cancelled.

    Raises BenchError."""
    regions = sorted(REGIONS, key=lambda region: round_trip_s(primary, region))
    with TemporaryDirectory(prefix="litecast-bench-") as folder:
        async with AsyncExitStack() as stack:
            say("starting five nodes")
            nodes = await _started(Path(folder), regions, primary, stack)
            local: list[float] = []
            for node in nodes:  # one after the other: there is nothing to wait for, and they would share the processors
                say(f"reading in {node.region}, from its own file")
                local.append(await node.median_ms("local read", LOCAL_READS))
            across: list[Sequence[float]] = []
            for what in ("remote read", "write", "write until readable"):
                say(f"in all regions: {what}")
                across.append(await asyncio.gather(*(node.median_ms(what, ACROSS) for node in nodes)))
            say("stopping")
    return [
        Region(
            name=node.region,
            round_trip_ms=round_trip_s(primary, node.region) * 1000,
            local_read_ms=local[number],
            remote_read_ms=across[0][number],
            write_ms=across[1][number],
            write_visible_ms=across[2][number],
        )
        for number, node in enumerate(nodes)
    ]


class _Node:
    def __init__(self, region: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.region = region
        self._process = process
        self._log = log

    async def median_ms(self, what: str, count: int) -> float:
        """Raises BenchError."""
        answer = await self.ask(measure=what, count=count)
        times_ms: list[float] = answer["ms"]
        return median(times_ms)

    async def ask(self, **request: object) -> dict[str, Any]:
        """Raises BenchError."""
        assert self._process.stdin is not None, "it is a pipe"
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            await self._process.stdin.drain()
        return await self.answer(ANSWER_WITHIN_S)

    async def answer(self, within_s: float) -> dict[str, Any]:
        """Raises BenchError."""
        assert self._process.stdout is not None, "it is a pipe"
        try:
            async with asyncio.timeout(within_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise BenchError(f"the node in {self.region} did not answer within {within_s:g} s") from None
        if not line:
            said = self._log.read_text(errors="replace").strip().splitlines()
            raise BenchError(f"the node in {self.region} has ended: {said[-1] if said else 'it said nothing'}")
        found: dict[str, Any] = json.loads(line)
        return found


async def _started(folder: Path, regions: Sequence[str], primary: str, stack: AsyncExitStack) -> list[_Node]:
    ports = free_ports(3 * len(regions))
    bus, http, serving = (dict(zip(regions, ports[part::3], strict=True)) for part in range(3))
    secret = make_secret()
    nodes: list[_Node] = []
    for here in regions:
        peers: list[str] = []
        for there in regions:
            if there != here:
                one_way_s = round_trip_s(here, there) / 2
                peers.append(
                    f"{_HOST}:{await stack.enter_async_context(relay(_HOST, bus[there], one_way_s=one_way_s))}"
                )
        to_primary_s = round_trip_s(here, primary) / 2
        read_from = await stack.enter_async_context(relay(_HOST, serving[primary], one_way_s=to_primary_s))
        own = folder / here
        own.mkdir()
        environment = {
            "LITECAST_NODE__NAME": here,
            "LITECAST_NODE__REGION": here,
            "LITECAST_NODE__DATA_DIR": str(own),
            "LITECAST_CLUSTER__SIZE": str(len(regions)),
            "LITECAST_BUS__SECRET": secret,
            "LITECAST_BUS__BIND": f"tcp://{_HOST}:{bus[here]}",
            "LITECAST_BUS__ADVERTISE": f"tcp://{_HOST}:{_nowhere(stack)}",
            "LITECAST_DISCOVERY__METHOD": "static",
            "LITECAST_DISCOVERY__PEERS": ",".join(peers),
            "LITECAST_HTTP__BIND": f"{_HOST}:{http[here]}",
            "LITECAST_REPLICATION__MODE": "primary",
            "LITECAST_LEASE__PROVIDER": "static",
            "LITECAST_LEASE__PRIMARY": primary,
        }
        nodes.append(await stack.enter_async_context(_running(here, own, environment, serving[here], read_from)))
    await asyncio.gather(*(node.answer(START_WITHIN_S) for node in nodes))
    await asyncio.gather(*(node.ask(measure="ready", count=len(regions) - 1) for node in nodes))
    return nodes


def _nowhere(stack: AsyncExitStack) -> int:
    """A port where nobody answers: what nodes tell of themselves must not lead past the relays."""
    held = stack.enter_context(socket.socket())
    held.bind((_HOST, 0))
    return int(held.getsockname()[1])


@asynccontextmanager
async def _running(
    region: str, folder: Path, environment: dict[str, str], serve_port: int, primary_port: int
) -> AsyncIterator[_Node]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    log = folder / "node.log"
    with log.open("wb") as written:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a folder called `app` where it is run must not be taken for ours
                "-m",
                "app.bench.child",
                str(serve_port),
                str(primary_port),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=written,
                env=inherited | environment,
                limit=2**20,
                start_new_session=True,  # Ctrl-C is for the benchmark, which ends its nodes
            )
        except OSError as error:
            raise BenchError(f"no process could be started for the node in {region}: {error}") from None
    try:
        yield _Node(region, process, log)
    finally:
        await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """A node ends when its standard input does."""
    assert process.stdin is not None, "it is a pipe"
    process.stdin.close()
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
