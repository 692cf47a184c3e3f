"""A real S3 server over a folder, for tests: versitygw, where it is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.servers import ACCESS, BUCKET, SECRET, S3Server, installed, versitygw
from tests.support.node_process import free_port

__all__ = ["ACCESS", "BUCKET", "SECRET", "S3Server", "s3_server"]


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Skips the test where there is none to be run."""
    program = installed("versitygw")
    if program is None:
        pytest.skip("versitygw is not installed: an S3 server over a folder (PATH, or LITECAST_TEST_BIN)")
    with versitygw(program, folder, free_port()) as server:
        yield server
