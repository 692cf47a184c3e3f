"""kill -9 at each step of an upload, a snapshot and a restore, as a real S3 server is asked for it: nothing is lost."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.convergent_nodes import Make, cluster_of, rows
from tests.support.http_proxy import Fate, HttpProxy, http_proxy
from tests.support.node_process import NodeProcess, node_processes
from tests.support.s3_server import BUCKET, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FOLDER = f"/{BUCKET}/folder"
MARKER, CLOSING, CHANGESETS = f"{FOLDER}/litecast.json", f"{FOLDER}/snapshots/00000001", f"{FOLDER}/changesets/"
PIECE = "/000000"
SNAPSHOT = (MARKER, PIECE, CLOSING)
FATES = (Fate.BUSY, Fate.LOST)
"""The node is killed when the request comes; and it is not done, or done all the same."""
RESTORES = (MARKER, CLOSING, PIECE, "prefix=folder%2Fchangesets", CHANGESETS)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpProxy]:
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        port = urlsplit(server.environ["AWS_ENDPOINT_URL_S3"]).port
        assert port is not None
        with http_proxy(port) as proxy:
            for name, value in {**server.environ, "AWS_ENDPOINT_URL_S3": proxy.url}.items():
                monkeypatch.setenv(name, value)
            yield proxy


def killed_at(proxy: HttpProxy, node: NodeProcess, method: str, part: str, fate: Fate) -> None:
    """The node is gone as soon as it asks for that."""

    def decide(asked: str, path: str) -> Fate:
        if asked == method and part in path:
            node.signal(signal.SIGKILL)
            return fate
        return Fate.PASSES

    proxy.fate = decide


def dies(node: NodeProcess) -> None:
    assert node.ended(within_s=40) == -signal.SIGKILL, node.log


def test_a_node_is_killed_at_each_step_of_uploading_and_of_restoring(make: Make, proxy: HttpProxy) -> None:
    (node,) = cluster_of(make, "a", backup__url=f"s3://{BUCKET}/folder", backup__interval_s=0.2)
    proxy.fate = lambda method, path: Fate.BUSY
    node.start_and_wait()
    assert node.count_view("home")[0] == 200
    node.signal(signal.SIGKILL)
    dies(node)
    for part in SNAPSHOT:
        for fate in FATES:
            killed_at(proxy, node, "PUT", part, fate)
            node.start()
            dies(node)
    killed_at(proxy, node, "PUT", CHANGESETS, Fate.BUSY)
    node.start_and_wait()
    assert node.count_view("home")[0] == 200
    dies(node)
    killed_at(proxy, node, "PUT", CHANGESETS, Fate.LOST)
    node.start()
    dies(node)
    proxy.fate = lambda method, path: Fate.PASSES
    node.start_and_wait()
    node.until(lambda: (backup := node.cluster()["replication"]["backup"])["lacking"] == 0 and backup["snapshot"] == 1)
    node.signal(signal.SIGKILL)
    dies(node)
    shutil.rmtree(node.folder / "data")
    for part in RESTORES:
        killed_at(proxy, node, "GET", part, Fate.LOST)
        node.start()
        dies(node)
        assert not node.database.exists()
    proxy.fate = lambda method, path: Fate.PASSES
    node.start_and_wait()
    assert "the database was restored from the backup" in node.log
    ((page, count, *_),) = rows(node, "page_counts")
    assert (page, count) == ("home", 2)
    assert not list((node.folder / "data").glob("restoring-*"))
