"""What a node costs that has nothing to do: three `litecast node` processes that know each other, and no traffic.

The share of a core is the processor time of the whole process, user and system, from /proc: all its threads, ZeroMQ's
included. The kernel counts in hundredths of a second, so that 20 s resolve 0.05 %.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.child import END_TIMEOUT_S, ROOT, ChildFailed
from benchmarks.measuring import AtMost, Benchmark, Comparison, Contestants, Figures
from cluster.security import make_secret

NAMES = ("alpha", "beta", "gamma")
IDLE = "a node with two idle peers"
CORE_SHARE = "core_percent"
UP_TIMEOUT_S = 20.0
POLL_INTERVAL_S = 0.1
SETTLE_S = 2.0  # what starting costs is not part of it


def idle(*, quick: bool) -> Benchmark:
    """The mean share of a core that each of three idle nodes takes."""
    return Benchmark(
        name="idle",
        title="Three idle nodes with a secret, as `litecast node` runs them",
        rounds=1,
        open=partial(_open, 5.0 if quick else 20.0),
        comparisons=(Comparison(subject=IDLE, figure=CORE_SHARE, target=AtMost(1.0)),),
        warm_up=False,
    )


@contextmanager
def _open(seconds: float) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as folder, ExitStack() as stack:
        ports = _free_ports(2 * len(NAMES))
        bus_ports, http_ports = ports[: len(NAMES)], ports[len(NAMES) :]
        environment = _environment(make_secret(), bus_ports)
        nodes = [
            stack.enter_context(_node(Path(folder) / name, name, bus, http, environment))
            for name, bus, http in zip(NAMES, bus_ports, http_ports, strict=True)
        ]
        for node, port in zip(nodes, http_ports, strict=True):
            _wait_for_peers(node, port)
        time.sleep(SETTLE_S)
        yield {IDLE: partial(_share, [node.pid for node in nodes], seconds)}


def _environment(secret: str, bus_ports: list[int]) -> dict[str, str]:
    foreign = ("LITECAST_", "FLY_", "DATABASE_PATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {
        **kept,
        "LITECAST_BUS__SECRET": secret,
        "LITECAST_DISCOVERY__METHOD": "static",
        "LITECAST_DISCOVERY__PEERS": ",".join(f"127.0.0.1:{port}" for port in bus_ports),
        "LITECAST_REPLICATION__MODE": "naive",
    }


@contextmanager
def _node(
    folder: Path, name: str, bus_port: int, http_port: int, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        node = subprocess.Popen(
            [sys.executable, "-m", "app.demo.child"],  # a `litecast node` that ends when its standard input does
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
            env={
                **environment,
                "LITECAST_NODE__NAME": name,
                "LITECAST_NODE__DATA_DIR": str(folder / "data"),
                "LITECAST_BUS__BIND": f"tcp://127.0.0.1:{bus_port}",
                "LITECAST_HTTP__BIND": f"127.0.0.1:{http_port}",
            },
        )
    try:
        yield node
    except ChildFailed:
        sys.stderr.write((folder / "log").read_text())
        raise
    finally:
        node.terminate()
        try:
            node.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()
        assert node.stdin is not None
        node.stdin.close()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _wait_for_peers(node: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + UP_TIMEOUT_S
    while _peers_up(port) < len(NAMES) - 1:
        if node.poll() is not None:
            raise ChildFailed(f"a node ended with status {node.returncode}")
        if time.monotonic() > deadline_s:
            raise ChildFailed(f"the nodes did not find each other within {UP_TIMEOUT_S:g} s")
        time.sleep(POLL_INTERVAL_S)


def _peers_up(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/cluster", timeout=1) as answer:
            peers = json.load(answer)["peers"]
    except OSError:
        return 0
    return sum(peer["state"] == "up" for peer in peers)


def _share(processes: list[int], seconds: float) -> Figures:
    began_s, before_s = time.monotonic(), [_processor_time_s(process) for process in processes]
    time.sleep(seconds)
    used_s = sum(_processor_time_s(process) for process in processes) - sum(before_s)
    return {CORE_SHARE: 100 * used_s / len(processes) / (time.monotonic() - began_s)}


def _processor_time_s(process: int) -> float:
    # Behind the name, which may hold anything, in parentheses: fields 14 and 15 are user and system time in ticks.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
