"""The image as Fly.io runs it: Fly's variables, an IPv6 network, and a DNS server that answers as `.internal` does.

What this leaves out (Fly's proxy, its checks, its volumes) is listed in docs/fly.md.
"""

import ipaddress
import json
import secrets
import time
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import asked, docker, logs, wait_for, works

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
FLY = tomllib.loads((ROOT / "fly.toml").read_text())
APP = FLY["app"]
REGIONS = ("ams", "ord", "syd")


class Fly:
    """An organisation's private network with a name server, and machines on it."""

    def __init__(self, image: str) -> None:
        self._image = image
        self.name = f"litecast-fly-{secrets.token_hex(4)}"
        # A /64 of its own out of those that anybody may use (RFC 4193), as Fly's 6PN is.
        self._subnet = ipaddress.IPv6Network(((0xFD << 40 | secrets.randbits(40)) << 80, 64))
        self.secret = secrets.token_hex(32)
        self._containers: list[str] = []
        self._dns = ""

    def address(self, number: int) -> str:
        return str(self._subnet[number + 16])

    def start(self) -> None:
        """Makes the network and its name server, which lists every machine there will be."""
        docker("network", "create", "--ipv6", "--subnet", str(self._subnet), self.name)
        records = [f"{APP}.internal={self.address(number)}" for number in range(len(REGIONS))]
        server = self._run(
            *("--volume", f"{ROOT / 'tests/support/dns_server.py'}:/dns_server.py:ro", "--user", "0"),
            *("--entrypoint", "python", "--no-healthcheck"),
            command=("/dns_server.py", "0.0.0.0", "53", *records),
        )
        wait_for("the name server", lambda: logs(server), lambda log: "listening" in log)
        networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", server))
        self._dns = networks[self.name]["IPAddress"]

    def machine(self, number: int) -> str:
        """Starts the machine of this number and gives its container's id."""
        env = {
            "FLY_APP_NAME": APP,
            "FLY_MACHINE_ID": f"machine{number}",
            "FLY_REGION": REGIONS[number],
            "FLY_PRIVATE_IP": self.address(number),
            "PRIMARY_REGION": FLY["primary_region"],
            "LITECAST_BUS__SECRET": self.secret,
            **FLY["env"],
        }
        options = [option for name, value in env.items() for option in ("--env", f"{name}={value}")]
        return self._run(
            *("--ip6", self.address(number), "--dns", self._dns, "--memory", FLY["vm"][0]["memory"].removesuffix("b")),
            *options,
        )

    def stop(self) -> None:
        """Removes all of it."""
        for container in self._containers:
            docker("rm", "--force", "--volumes", container)
        if works("docker", "network", "inspect", self.name):
            docker("network", "rm", self.name)

    def _run(self, *options: str, command: tuple[str, ...] = ()) -> str:
        container = docker("run", "--detach", "--network", self.name, *options, self._image, *command)
        self._containers.append(container)
        return container


@pytest.fixture
def fly(litecast_image: str) -> Iterator[Fly]:
    made = Fly(litecast_image)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def has_two_peers_up(report: Any) -> bool:
    return report is not None and [peer["state"] for peer in report["peers"]] == ["up", "up"]


def test_machines_of_three_regions_find_each_other_over_ipv6(fly: Fly) -> None:
    machines = [fly.machine(number) for number in range(3)]
    reports = [
        wait_for("two peers that are up", partial(asked, machine, "status"), has_two_peers_up) for machine in machines
    ]
    for number, report in enumerate(reports):
        assert (report["node"]["name"], report["node"]["region"]) == (f"machine{number}", REGIONS[number])
        assert report["mode"] == FLY["env"]["LITECAST_REPLICATION__MODE"]
        others = [other for other in range(3) if other != number]
        assert sorted((peer["name"], peer["region"], peer["address"]) for peer in report["peers"]) == [
            (f"machine{other}", REGIONS[other], f"tcp://[{fly.address(other)}]:7400") for other in others
        ]

    # The health check of the image says what Fly's would: both ask whether the node is ready.
    health = docker("inspect", "--format", "{{json .Config.Healthcheck.Test}}", machines[0])
    assert json.loads(health) == ["CMD", "litecast", "status"]
    assert docker("exec", machines[0], "id", "-un") == "litecast"
    assert docker("exec", machines[0], "ls", "/data/litecast.db") == "/data/litecast.db"
    first_lines = [json.loads(line)["message"] for line in logs(machines[0]).splitlines()]
    assert f"machine0 ({REGIONS[0]}) of cluster {APP}" in " ".join(first_lines)

    began = time.monotonic()
    docker("kill", "--signal", FLY["kill_signal"], machines[2])
    assert docker("wait", machines[2]) == "0"
    assert time.monotonic() - began < FLY["kill_timeout"]
    wait_for(
        "the machine that stopped is down",
        lambda: asked(machines[0], "status"),
        lambda report: (
            {peer["name"]: peer["state"] for peer in report["peers"]} == {"machine1": "up", "machine2": "down"}
        ),
    )
