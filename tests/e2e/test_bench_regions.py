"""`litecast bench regions` as somebody runs it: real nodes, what was injected shows, and nothing is left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.bench.places import REGIONS, round_trip_s
from app.bench.relay import relay

LITECAST = Path(sys.executable).parent / "litecast"
WITHIN_S = 120.0  # it takes a quarter of that, but for a very busy machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * WITHIN_S),
    pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc"),
]


@contextmanager
def bench(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [LITECAST, "bench", "regions", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "LITECAST_NODE__NAME": "of somebody else"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def nodes_of(folder: Path) -> list[str]:
    """The ids of the processes whose data is below this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if f"LITECAST_NODE__DATA_DIR={folder}".encode() in (entry / "environ").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_reads_from_the_local_file_cost_nothing_of_the_distance_and_all_else_costs_it(tmp_path: Path) -> None:
    with bench(tmp_path, "--json", "--primary", "ams") as process:
        printed, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0, said
    found = json.loads(printed)
    assert found["primary"] == "ams"
    assert {one["region"] for one in found["regions"]} == set(REGIONS)
    first, *others = found["regions"]
    assert (first["region"], first["round_trip_ms"]) == ("ams", 0)
    for one in others:
        assert one["round_trip_ms"] == round_trip_s("ams", one["region"]) * 1000
        assert one["local_read_ms"] < one["round_trip_ms"]
        for figure in ("remote_read_ms", "write_ms", "write_visible_ms"):
            assert one[figure] >= one["round_trip_ms"], one
        assert one["write_ms"] < 2 * one["round_trip_ms"] + 500, one  # not two ways round the world
    assert nodes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_it_and_all_its_nodes(tmp_path: Path) -> None:
    with bench(tmp_path) as process:
        deadline_s = time.monotonic() + WITHIN_S
        while len(nodes_of(tmp_path)) < len(REGIONS):
            assert time.monotonic() < deadline_s, "the nodes did not start"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert nodes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


async def test_what_goes_through_a_relay_is_late_by_so_much_however_much_it_is() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, host="127.0.0.1", port=0)
    async with server, relay("127.0.0.1", server.sockets[0].getsockname()[1], one_way_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began_s = time.monotonic()
        for _ in range(50):
            writer.write(b"x" * 1000)
            await asyncio.sleep(0.002)
        assert await reader.readexactly(50_000) == b"x" * 50_000
        assert 0.4 <= time.monotonic() - began_s < 5.0  # one after the other it would be 20 s
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
