"""What a quorum has acknowledged survives the node that wrote it, disk and all, with real processes."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.convergent_nodes import introduce, kill, opened
from tests.support.node_process import NodeProcess, node_processes
from tests.support.primary_processes import primary_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WITHIN_S = 60.0
PAGES = 4


@pytest.fixture(params=["convergent", "primary"])
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[NodeProcess]]:
    (tmp_path / "lease").mkdir()
    settings = {
        "cluster__size": 3,
        "lease__provider": "object_store",
        "lease__url": f"file://{tmp_path / 'lease'}",
        "lease__ttl_s": 2.0,
        "replication__mode": request.param,
        "replication__ack": "quorum",
        "replication__ack_timeout_s": 1.0,
    }
    with node_processes(tmp_path) as make:
        found = [make(name, **settings) for name in "abc"]
        introduce(found)
        for node in found:
            node.start()
        for node in found:
            node.until(lambda node=node: node.get("/readyz")[0] == 200, WITHIN_S)  # type: ignore[misc]
            node.until(lambda node=node: len(node.peers_up()) == 2, WITHIN_S)  # type: ignore[misc]
        yield found


def writer_of(nodes: list[NodeProcess]) -> NodeProcess:
    """The primary, where there is one."""
    has_one = nodes[0].cluster()["replication"].get("role") is not None
    return primary_of(nodes) if has_one else nodes[0]


def shown(node: NodeProcess) -> dict[str, int]:
    with contextlib.closing(opened(node)) as file:
        return dict(file.execute("SELECT page, count FROM page_counts").fetchall())


def test_what_a_quorum_acknowledged_outlives_the_node_that_wrote_it(nodes: list[NodeProcess]) -> None:
    writer = writer_of(nodes)
    others = [node for node in nodes if node is not writer]
    acknowledged = dict.fromkeys(map(str, range(PAGES)), 0)
    is_over = threading.Event()

    def count(page: str) -> None:
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                if writer.count_view(page)[0] == 200:
                    acknowledged[page] += 1

    threads = [threading.Thread(target=count, args=(page,)) for page in acknowledged]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + WITHIN_S
    while min(acknowledged.values()) < 25 and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(writer)
    is_over.set()
    for thread in threads:
        thread.join()
    assert min(acknowledged.values()) >= 25
    for node in others:
        node.until(
            lambda node=node: all(shown(node).get(page, 0) >= n for page, n in acknowledged.items()),  # type: ignore[misc]
            WITHIN_S,
        )


def test_without_a_quorum_a_view_is_counted_and_not_acknowledged(nodes: list[NodeProcess]) -> None:
    writer = writer_of(nodes)
    for node in nodes:
        if node is not writer:
            kill(node)
    status, answer = writer.count_view("home")
    assert status == 500
    assert "whether the view was counted is unknown" in str(answer)
    assert shown(writer) == {"home": 1}
