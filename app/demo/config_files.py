"""The files that the nodes of the demo start with, and free ports for them."""

import json
import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.config.model import Mode
from app.demo.errors import DemoError
from app.demo.plan import PlannedNode
from cluster.security import make_secret

HOST = "127.0.0.1"
CLUSTER = "litecast-demo"
SECRET_FILE = "cluster.secret"
LEASE_FOLDER = "lease"
LEASE_TTL_S = 3.0
"""Shorter than one would take, so that nobody waits for long: 10 is the default."""
# Ports that the system gives to outgoing connections may be taken at any moment; those below them are not.
_PORT_MIN = 10_240
_PORT_MAX_DEFAULT = 32_767
_PORT_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORT_TRIES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFiles:
    """Where one node of the demo lives: its folder, its ports."""

    name: str
    region: str
    folder: Path
    bus_port: int
    http_port: int

    @property
    def config_file(self) -> Path:
        return self.folder / "config.toml"

    @property
    def database(self) -> Path:
        return self.folder / "litecast.db"

    @property
    def log_file(self) -> Path:
        return self.folder / "node.log"

    @property
    def url(self) -> str:
        """Where its web application answers."""
        return f"http://{HOST}:{self.http_port}"


def lay_out(folder: Path, nodes: Sequence[PlannedNode]) -> list[NodeFiles]:
    """A folder and two free ports for each node, and a fresh secret for them all.

    Raises DemoError if there are not enough free ports.
    """
    secret = folder / SECRET_FILE
    if not secret.exists():
        descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make_secret() + "\n")
    (folder / LEASE_FOLDER).mkdir(exist_ok=True)
    ports = free_ports(2 * len(nodes))
    laid_out = []
    for index, node in enumerate(nodes):
        own = folder / node.name
        own.mkdir(exist_ok=True)
        laid_out.append(
            NodeFiles(
                name=node.name,
                region=node.region,
                folder=own,
                bus_port=ports[2 * index],
                http_port=ports[2 * index + 1],
            )
        )
    return laid_out


def write_configs(nodes: Sequence[NodeFiles], mode: str, *, backup: str | None = None) -> None:
    """Writes each node's config.toml, for this mode. `backup`: the url of the place that they upload to, if any."""
    for node in nodes:
        node.config_file.write_text(config_text(node, nodes, mode, backup=backup), encoding="utf-8")


def config_text(node: NodeFiles, nodes: Sequence[NodeFiles], mode: str, *, backup: str | None = None) -> str:
    """The configuration of one node: loopback only, the others as static peers."""
    peers = [f"{HOST}:{other.bus_port}" for other in nodes if other.name != node.name]
    sections: dict[str, dict[str, object]] = {
        "cluster": {"name": CLUSTER},
        "node": {"name": node.name, "region": node.region, "data_dir": "."},
        "database": {"path": node.database.name},
        "bus": {"bind": f"tcp://{HOST}:{node.bus_port}", "secret_file": f"../{SECRET_FILE}"},
        "discovery": {"method": "static", "peers": peers},
        "replication": {"mode": mode},
        "http": {"bind": f"{HOST}:{node.http_port}"},
        **(_primary_sections(node, len(nodes)) if mode == Mode.PRIMARY else {}),
        **({"backup": {"url": backup}} if backup is not None else {}),
        "log": {"level": "info", "format": "text"},
    }
    # What JSON writes for text and for lists of text is TOML as well.
    return (
        "\n\n".join(
            f"[{section}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
            for section, values in sections.items()
        )
        + "\n"
    )


def _primary_sections(node: NodeFiles, size: int) -> dict[str, dict[str, object]]:
    """What mode primary needs beside: how many nodes there are, and where the lease is kept."""
    leases = (node.folder.parent / LEASE_FOLDER).resolve()
    return {
        "cluster": {"name": CLUSTER, "size": size},
        "lease": {"provider": "object_store", "url": leases.as_uri(), "ttl_s": LEASE_TTL_S},
    }


def free_ports(count: int) -> list[int]:
    """Different ports of loopback that nobody listens on now. Raises DemoError if there are not enough.

    Somebody may take one before a node does: whoever starts the nodes tries again with others.
    """
    ports: list[int] = []
    highest = _highest_port()
    chance = random.SystemRandom()  # not the seed's: two demos of one seed may run at once
    for _ in range(_PORT_TRIES):
        if len(ports) == count:
            break
        port = chance.randint(_PORT_MIN, highest)
        if port not in ports and _is_free(port):
            ports.append(port)
    if len(ports) < count:
        raise DemoError(f"there are no {count} free ports on {HOST}; stop what uses so many of them")
    return ports


def _highest_port() -> int:
    try:
        lowest_given = int(_PORT_RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _PORT_MAX_DEFAULT
    return lowest_given - 1 if lowest_given > _PORT_MIN + _PORT_TRIES else _PORT_MAX_DEFAULT


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
