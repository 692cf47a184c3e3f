"""A real S3 server over a folder, for tests: versitygw, where it is installed."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.node_process import free_port

ACCESS, SECRET = "litecast-test", "not-a-secret-of-anybody"
BUCKET = "bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """One that runs. `environ`: what a client needs to reach it. `folder`: where its objects are files."""

    environ: dict[str, str]
    folder: Path


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Skips the test where there is none to be run."""
    program = shutil.which("versitygw", path=f"{os.environ.get('LITECAST_TEST_BIN', '')}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("versitygw is not installed: an S3 server over a folder (PATH, or LITECAST_TEST_BIN)")
    objects = folder / "root" / BUCKET
    objects.mkdir(parents=True)
    (folder / "meta").mkdir()
    port = free_port()
    command = [program, "--access", ACCESS, "--secret", SECRET, "--port", f"127.0.0.1:{port}", "posix"]
    command += ["--sidecar", str(folder / "meta"), str(folder / "root")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            yield S3Server(
                environ={
                    "AWS_ACCESS_KEY_ID": ACCESS,
                    "AWS_SECRET_ACCESS_KEY": SECRET,
                    "AWS_REGION": "us-east-1",
                    "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
                },
                folder=objects,
            )
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the S3 server does not listen")
