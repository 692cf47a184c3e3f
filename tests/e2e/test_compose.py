"""`docker compose up --scale node=3` for real: a cluster that finds itself, loses a node and grows.

It lasts about half a minute, and longer where the image has to be built from scratch.
"""

import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.containers import asked, compose_command, docker, run, wait_for, works

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
UP_S = 120.0
BUILD_S = 400.0
# Prints {node: count} of a page, read from each node's own file on the shared volume, as any other program would.
COUNTS = """
import contextlib, json, pathlib, sqlite3, sys
counts = {}
for file in sorted(pathlib.Path("/data").glob("node-*/litecast.db")):
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT count FROM page_counts WHERE page = ?", [sys.argv[1]]).fetchone()
    counts[file.parent.name] = row[0] if row else 0
print(json.dumps(counts))
"""


class Cluster:
    """A compose project of its own, from the repository's compose file."""

    def __init__(self, image: str) -> None:
        self.mode = "convergent"
        self.project = f"litecast-test-{secrets.token_hex(4)}"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.image = image
        self.entry = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=10)

    def compose(self, *arguments: str, within_s: float = UP_S) -> str:
        command = compose_command()
        assert command is not None
        files = ("--file", str(ROOT / "compose.yaml"), "--project-name", self.project)
        env = os.environ | {
            "LITECAST_IMAGE": self.image,
            "LITECAST_PORT": str(self.port),
            "LITECAST_REPLICATION__MODE": self.mode,
        }
        return run(*command, *files, *arguments, within_s=within_s, env=env)

    def up(self, nodes: int) -> None:
        self.compose("up", "--detach", "--no-build", "--no-recreate", "--scale", f"node={nodes}")

    def containers(self, service: str, *filters: str) -> list[str]:
        """The ids of the service's containers, the running ones unless the filters say otherwise."""
        labels = [f"label=com.docker.compose.project={self.project}", f"label=com.docker.compose.service={service}"]
        options = [option for each in (*labels, *filters) for option in ("--filter", each)]
        return docker("ps", "--quiet", *options).split()

    def peers(self) -> dict[str, dict[str, str]]:
        """Of each running node that answers: its peers and how it sees them."""
        answers = [asked(container, "status") for container in self.containers("node")]
        return {
            answer["node"]["name"]: {peer["name"]: peer["state"] for peer in answer["peers"]}
            for answer in answers
            if answer is not None
        }

    def primaries(self) -> set[str]:
        """Whom the nodes that answer take for the primary; "" for nobody."""
        answers = [asked(container, "status") for container in self.containers("node")]
        return {answer["replication"]["primary"] or "" for answer in answers if answer is not None}

    def counts(self, page: str) -> Mapping[str, int]:
        """The page's count in each node's own file."""
        container = self.containers("node")[0]
        counts: dict[str, int] = json.loads(docker("exec", container, "python", "-c", COUNTS, page))
        return counts

    def view(self, page: str) -> str:
        """Counts a view through the entry and gives the name of the node that counted it."""
        answer = self.entry.post(f"/api/pages/{page}/views")
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-served-by"] == answer.json()["node"]
        return str(answer.json()["node"])


@pytest.fixture
def cluster(litecast_image: str) -> Iterator[Cluster]:
    if compose_command() is None:
        pytest.skip("neither docker compose nor docker-compose is here")
    made = Cluster(litecast_image)
    try:
        yield made
    finally:
        made.entry.close()
        made.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def everybody_sees(nodes: int) -> dict[str, dict[str, str]]:
    """What `Cluster.peers` gives when so many nodes all see each other."""
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    return {name: {other: "up" for other in names if other != name} for name in names}


def test_cluster_finds_itself_counts_loses_a_node_and_grows(cluster: Cluster) -> None:
    cluster.up(3)
    wait_for("three nodes that see each other", cluster.peers, everybody_sees(3).__eq__)
    wait_for("the entry", lambda: _status(cluster.entry), (200).__eq__)

    # Gentle traffic, as the post has it: each view has arrived everywhere before the next.
    served = []
    for views in range(1, 7):
        served.append(cluster.view("gentle"))
        everywhere = dict.fromkeys(everybody_sees(3), views)
        wait_for("a view in all files", lambda: cluster.counts("gentle"), everywhere.__eq__)
    assert set(served) == set(everybody_sees(3))  # in turn, but for one that was not ready for a moment

    victim = cluster.containers("node")[0]
    name = asked(victim, "status")["node"]["name"]
    docker("kill", victim)
    survivors = sorted(set(everybody_sees(3)) - {name})
    wait_for(
        "the others see it down",
        cluster.peers,
        lambda seen: sorted(seen) == survivors and all(states[name] == "down" for states in seen.values()),
    )
    assert {cluster.view("meanwhile") for _ in range(4)} == set(survivors)

    cluster.up(4)
    wait_for("four nodes that see each other", cluster.peers, everybody_sees(4).__eq__)
    # The one that was killed got its own folder back and learns what it missed; the new one learns everything.
    for page, views in (("gentle", 6), ("meanwhile", 4)):
        everywhere = dict.fromkeys(everybody_sees(4), views)
        wait_for(f"all views of {page} in all files", partial(cluster.counts, page), everywhere.__eq__)
    wait_for("requests for the new node", lambda: cluster.view("late"), "node-4".__eq__)

    containers = cluster.containers("node") + cluster.containers("entry")
    cluster.compose("stop", "--timeout", "20")
    assert {docker("inspect", "--format", "{{.State.ExitCode}}", container) for container in containers} == {"0"}


def test_in_mode_primary_one_node_writes_and_another_follows_the_one_that_is_killed(cluster: Cluster) -> None:
    cluster.mode = "primary"
    cluster.up(3)
    wait_for("three nodes that see each other", cluster.peers, everybody_sees(3).__eq__)
    (first,) = wait_for("a primary that all know", cluster.primaries, lambda found: len(found) == 1 and "" not in found)
    views = 0
    while len({cluster.view("home") for _ in range(3)}) < 3:  # each node, through the entry
        views += 3
    views += 3
    wait_for("all views in all files", lambda: cluster.counts("home"), dict.fromkeys(everybody_sees(3), views).__eq__)

    victim = next(one for one in cluster.containers("node") if asked(one, "status")["node"]["name"] == first)
    docker("kill", victim)
    (second,) = wait_for(
        "another primary", cluster.primaries, lambda found: len(found) == 1 and not found & {first, ""}
    )
    assert second != first
    cluster.view("home")
    rest = set(everybody_sees(3)) - {first}
    wait_for(
        "the view in the files of those that are up",
        lambda: {name: count for name, count in cluster.counts("home").items() if name in rest},
        dict.fromkeys(rest, views + 1).__eq__,
    )


def test_compose_builds_the_image_by_itself(cluster: Cluster, tmp_path: Path) -> None:
    here = tmp_path / "compose.override.yaml"
    # Only for this test: its machine may reach the package index from the host's network alone.
    here.write_text("services: {secret: {build: {network: host}}}\n")
    cluster.image += "-compose"
    try:
        cluster.compose("--file", str(here), "build", within_s=BUILD_S)
        assert docker("run", "--rm", cluster.image, "--version").startswith("litecast ")
    finally:
        works("docker", "image", "rm", "--force", cluster.image)


def test_only_the_entry_is_published_and_only_to_this_machine(cluster: Cluster) -> None:
    cluster.up(2)
    listed = docker("ps", "--filter", f"label=com.docker.compose.project={cluster.project}", "--format", "{{.Ports}}")
    published = [port for line in listed.splitlines() for port in line.split(", ") if "->" in port]
    assert published == [f"127.0.0.1:{cluster.port}->8080/tcp"]


def _status(client: httpx.Client) -> int | None:
    try:
        return client.get("/readyz").status_code
    except httpx.TransportError:
        return None
