"""A real Consul agent on this machine, for tests: in memory, with sessions that may be short."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

_PORTS_OFF = ("dns", "grpc", "serf_wan")


@contextlib.contextmanager
def consul_agent(folder: Path) -> Iterator[str]:
    """Its URL. Skips the test where there is no Consul."""
    program = shutil.which("consul", path=f"{os.environ.get('LITECAST_TEST_BIN', '')}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("consul is not installed: a lease provider (PATH, or LITECAST_TEST_BIN)")
    http, server, serf = _free_ports(3)
    settings = {
        "session_ttl_min": "1s",
        "ports": {**dict.fromkeys(_PORTS_OFF, -1), "http": http, "server": server, "serf_lan": serf},
    }
    file = folder / "consul.json"
    file.write_text(json.dumps(settings))
    command = [program, "agent", "-dev", "-bind=127.0.0.1", "-log-level=err", f"-config-file={file}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as agent:
        try:
            _wait_for(f"http://127.0.0.1:{http}")
            yield f"http://127.0.0.1:{http}"
        finally:
            agent.terminate()


def put(url: str, content: bytes = b"", *, method: str = "PUT") -> None:
    """Writes a key, or whatever is asked of this URL."""
    with urllib.request.urlopen(urllib.request.Request(url, data=content, method=method), timeout=10) as answer:
        answer.read()


def _wait_for(url: str) -> None:
    """Until there is a leader, and sessions can be made."""
    for _ in range(600):
        with contextlib.suppress(OSError, urllib.error.URLError):
            put(f"{url}/v1/kv/is-there")
            return
        time.sleep(0.05)
    raise AssertionError("the Consul agent does not answer")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]
