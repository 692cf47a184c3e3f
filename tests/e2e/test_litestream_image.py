"""The image with Litestream around the node: the binary from the build context, a lost volume, and what comes back."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import asked, docker, logs, wait_for, works
from tests.support.litestream_nodes import litestream

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
BUILD_S = 400.0
COUNT = "import urllib.request as r; r.urlopen(r.Request('http://127.0.0.1:8080/api/pages/home/views', method='POST'))"
SHOWN = (
    "import sqlite3 as s; print(*s.connect('/data/a/litecast.db').execute('SELECT count FROM page_counts').fetchone())"
)


@pytest.fixture
def image(litecast_image: str, tmp_path: Path) -> Iterator[str]:
    """Built after the plain image, whose layers it takes."""
    context = tmp_path / "context"
    leave = shutil.ignore_patterns(".*", "data", "tests", "docs", "benchmarks", "__pycache__", "node_modules")
    shutil.copytree(ROOT, context, ignore=leave)
    shutil.copyfile(ROOT / ".dockerignore", context / ".dockerignore")
    shutil.copy(litestream(), context / "litestream")
    tag = f"{litecast_image}-litestream"
    try:
        options = ("--quiet", "--network", "host", "--target", "litestream", "--tag", tag)
        docker("build", *options, str(context), within_s=BUILD_S)
        yield tag
    finally:
        works("docker", "image", "rm", "--force", tag)


def test_a_container_without_its_volume_goes_on_with_what_litestream_copied(image: str) -> None:
    replicas, names = f"litecast-replicas-{secrets.token_hex(4)}", list[str]()

    def started() -> str:
        environ = ("--env", "LITECAST_NODE__NAME=a", "--env", "LITESTREAM_URL=file:///replicas")
        # The image's user has to own the folder: a bucket would ask for keys instead.
        tmpfs = ("--tmpfs", "/data:uid=10001,gid=10001,mode=0700")
        names.append(docker("run", "--detach", *environ, *tmpfs, "--volume", f"{replicas}:/replicas", image))
        wait_for("the node", lambda: asked(names[-1], "status"), lambda report: report is not None)
        return names[-1]

    try:
        docker("volume", "create", replicas)
        owned = ("--user", "0", "--entrypoint", "chown", "--volume", f"{replicas}:/replicas")
        docker("run", "--rm", *owned, image, "10001", "/replicas")
        first = started()
        docker("exec", first, "python", "-c", COUNT)
        wait_for("a copy", lambda: works("docker", "exec", first, "ls", "/replicas/a/ltx"), bool)
        docker("exec", first, "python", "-c", COUNT)
        docker("stop", "--time", "30", first, within_s=60)
        assert docker("wait", first) == "0", logs(first)
        second = started()
        assert docker("exec", second, "python", "-c", SHOWN) == "2", logs(second)
    finally:
        for name in names:
            docker("rm", "--force", "--volumes", name)
        works("docker", "volume", "rm", replicas)
