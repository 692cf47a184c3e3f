"""Programs of others that benchmarks and tests run where they are installed: an S3 server over a folder, Litestream.

They are looked for in PATH, and in the folder that LITECAST_TEST_BIN names."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket

BUCKET = "bucket"
ACCESS, SECRET = "litecast-test", "not-a-secret-of-anybody"
UP_TIMEOUT_S = 10.0
LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """One that runs. `environ`: what a client needs to reach it. `folder`: where its objects are files."""

    environ: dict[str, str]
    folder: Path


def installed(program: str) -> str | None:
    """Where it is; None where it is not installed."""
    return shutil.which(program, path=f"{os.environ.get('LITECAST_TEST_BIN', '')}:{os.environ['PATH']}")


@contextmanager
def versitygw(program: str, folder: Path, port: int) -> Iterator[S3Server]:
    """The S3 server with one bucket, `BUCKET`, inside the block. Raises TimeoutError if it does not begin to listen."""
    objects = folder / "root" / BUCKET
    objects.mkdir(parents=True)
    (folder / "meta").mkdir()
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
    deadline_s = time.monotonic() + UP_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(LOOK_S)
    raise TimeoutError("the S3 server does not listen")
