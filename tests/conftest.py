"""What every test gets: a clean environment, and a reason where a marked test cannot run here."""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import settings

# CI tries the same examples in every run, so that it never fails by luck. On a desk each run looks for new bugs.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("desk", deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# Settings of whoever runs the tests; a test that needs one sets it.
_PERSONAL = ("LITECAST_", "FLY_", "MY_REGION", "PRIMARY_REGION", "DATABASE_PATH")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's reaches a test or a process that it starts. `LITECAST_TEST_` variables stay."""
    for name in list(os.environ):
        if name.startswith(_PERSONAL) and not name.startswith("LITECAST_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def chromium() -> str:
    """The path of a Chromium, for tests marked `browser`."""
    path = _chromium()
    assert path is not None, "a test that asks for a Chromium is marked `browser`"
    return path


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """More than there are cores: half of the time is spent waiting for processes of a test."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests share a worker, and in which order workers take them.

    Those of a file go together, so do those of Docker, which share an image; each of e2e goes by itself. Tests that
    wait (e2e) come between tests that compute, so that some of both run at any moment."""
    computing: dict[str, list[pytest.Item]] = {}
    waiting: list[pytest.Item] = []
    for item in items:
        if "e2e" in item.path.parts:
            waiting.append(item)
            if item.get_closest_marker("docker") is not None:
                item.add_marker(pytest.mark.xdist_group("docker"))
        else:
            computing.setdefault(str(item.path), []).append(item)
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = _spread(waiting, among=list(computing.values()))


def _spread(waiting: list[pytest.Item], *, among: list[list[pytest.Item]]) -> list[pytest.Item]:
    spread: list[pytest.Item] = []
    done = 0
    for number, group in enumerate(among, start=1):
        upto = len(waiting) * number // len(among)
        spread += waiting[done:upto] + group
        done = upto
    return spread + waiting[done:]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a marked test where what it needs is not there, and says what that is."""
    for marker, missing in _NEEDS.items():
        if item.get_closest_marker(marker) is not None and (reason := missing()):
            pytest.skip(reason)


@functools.cache
def _chromium() -> str | None:
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


@functools.cache
def _no_browser() -> str | None:
    return None if _chromium() else f"no Chromium here (looked for {', '.join(_BROWSERS)})"


@functools.cache
def _no_docker() -> str | None:
    return None if _works("docker", "info") else "no Docker daemon answers here"


@functools.cache
def _no_netns() -> str | None:
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"litecast-test-{os.getpid()}"
    if not _works("ip", "netns", "add", probe):
        return "`ip netns` makes no network namespaces here"
    try:
        return None if _works("ip", "-n", probe, "rule", "add", "blackhole") else "`ip rule` drops no packets here"
    finally:
        _works("ip", "netns", "delete", probe)


def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, stdin=subprocess.DEVNULL).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


_NEEDS: dict[str, Callable[[], str | None]] = {"docker": _no_docker, "browser": _no_browser, "netns": _no_netns}
