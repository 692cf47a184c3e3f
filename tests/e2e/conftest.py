"""The container image, built once for all tests that run it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import docker, no_base_image, works

ROOT = Path(__file__).parents[2]
BUILD_S = 400.0


@pytest.fixture(scope="session")
def litecast_image() -> Iterator[str]:
    """The tag of an image of this checkout. It is gone after the tests, and so is what its build left behind."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = [line.split() for line in dockerfile.splitlines() if line.startswith("FROM ")]
    bases = {stage[1] for stage in stages} - {stage[3] for stage in stages if len(stage) > 3}
    for base in sorted(bases):
        if reason := no_base_image(base):
            pytest.skip(reason)
    before = _build_stages()
    tag = f"litecast-test-{secrets.token_hex(4)}"
    try:
        # The host's network, because a build network may have no way to the package index where tests run.
        docker("build", "--quiet", "--network", "host", "--tag", tag, str(ROOT), within_s=BUILD_S)
        yield tag
    finally:
        for left in [tag, *(_build_stages() - before)]:
            works("docker", "image", "rm", "--force", left)


def _build_stages() -> set[str]:
    """Images without a name that builders older than BuildKit keep of the stages before the last."""
    label = "label=litecast.stage"
    return set(docker("image", "ls", "--quiet", "--filter", "dangling=true", "--filter", label).split())
