"""Real nodes of one cluster on this machine, for a benchmark: processes of `litecast node`, always ended."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.child import END_TIMEOUT_S, ROOT, ChildFailed
from cluster.security import make_secret

UP_TIMEOUT_S = 120.0  # a node that attaches a million rows takes its time
POLL_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node lives."""

    name: str
    folder: Path
    bus_port: int
    http_port: int

    @property
    def database(self) -> Path:
        """Its database's file."""
        return self.folder / "data" / "litecast.db"


class Cluster:
    """Places for some nodes, and what they are started with. Nothing runs yet."""

    def __init__(self, folder: Path, names: Sequence[str], *, mode: str, **variables: str) -> None:
        ports = free_ports(2 * len(names))
        self.places = {
            name: Place(name=name, folder=folder / name, bus_port=bus, http_port=http)
            for name, bus, http in zip(names, ports[: len(names)], ports[len(names) :], strict=True)
        }
        foreign = ("LITECAST_", "FLY_", "DATABASE_PATH")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "LITECAST_BUS__SECRET": make_secret(),
            "LITECAST_DISCOVERY__METHOD": "static",
            "LITECAST_DISCOVERY__PEERS": ",".join(f"127.0.0.1:{place.bus_port}" for place in self.places.values()),
            "LITECAST_REPLICATION__MODE": mode,
            **variables,
        }
        for place in self.places.values():
            place.database.parent.mkdir(parents=True)

    @contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """A node inside the block. It may not be ready yet."""
        place = self.places[name]
        with (place.folder / "log").open("wb") as log:
            node = subprocess.Popen(
                [sys.executable, "-m", "app.demo.child"],  # a `litecast node` that ends when its standard input does
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
                env={
                    **self._environment,
                    "LITECAST_NODE__NAME": name,
                    "LITECAST_NODE__DATA_DIR": str(place.database.parent),
                    "LITECAST_BUS__BIND": f"tcp://127.0.0.1:{place.bus_port}",
                    "LITECAST_HTTP__BIND": f"127.0.0.1:{place.http_port}",
                },
            )
        try:
            yield node
        except ChildFailed:
            sys.stderr.write((place.folder / "log").read_text())
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

    @contextmanager
    def all_running(self) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
        """All nodes, each ready and with all the others as peers."""
        with ExitStack() as stack:
            nodes = {name: stack.enter_context(self.running(name)) for name in self.places}
            for name, node in nodes.items():
                self.wait_until_ready(name, node, peers=len(self.places) - 1)
            yield nodes

    def wait_until_ready(self, name: str, node: subprocess.Popen[bytes], *, peers: int) -> None:
        """Until the node says that it is, and that so many peers are up. Raises ChildFailed."""
        deadline_s = time.monotonic() + UP_TIMEOUT_S
        port = self.places[name].http_port
        while not (_answers(port, "/readyz") and _peers_up(port) >= peers):
            if node.poll() is not None:
                raise ChildFailed(f"node {name} ended with status {node.returncode}")
            if time.monotonic() > deadline_s:
                raise ChildFailed(f"node {name} was not ready within {UP_TIMEOUT_S:g} s")
            time.sleep(POLL_INTERVAL_S)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _peers_up(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/cluster", timeout=1) as answer:
            peers = json.load(answer)["peers"]
    except OSError:
        return 0
    return sum(peer["state"] == "up" for peer in peers)
