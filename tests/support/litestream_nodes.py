"""Nodes with a real Litestream around them, by the start script, over a folder or a real S3 server."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.servers import installed
from tests.support.node_process import NodeProcess

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "litestream-node"
REPLICATED_WITHIN_S = 40.0
STARTED_WITHIN_S = 90.0
"""Three programs one after the other; a busy machine takes several seconds for each."""


def litestream() -> str:
    """The program. Skips the test where there is none."""
    program = installed("litestream")
    if program is None:
        pytest.skip("litestream is not installed: continuous copies of an SQLite file (PATH, or LITECAST_TEST_BIN)")
    return program


class LitestreamNode(NodeProcess):
    """The script's processes are a group: they live and die together, as on a machine of their own."""

    def __init__(self, folder: Path, name: str, *, url: str, environ: Mapping[str, str], **settings: Any) -> None:
        """`url`: LITESTREAM_URL. `environ`: what a client needs to reach it."""
        super().__init__(folder, name, **settings)
        self.program = litestream()
        self.environ = {
            **environ,
            "PATH": f"{Path(sys.executable).parent}:{Path(self.program).parent}:{os.environ['PATH']}",
            "LITESTREAM_URL": url,
            "LITESTREAM_CONFIG": str(ROOT / "litestream.yml"),
        }
        variables = [f"{key}={value}" for key, value in self.environ.items()]
        # With AWS_CA_BUNDLE set, Litestream's S3 client does not start.
        self.command = [
            "setsid",
            "env",
            "-u",
            "AWS_CA_BUNDLE",
            *variables,
            str(SCRIPT),
            "node",
            "--config",
            str(self.config_file),
        ]

    def start_and_wait(self) -> None:
        """Start it and wait until it is ready."""
        self.start()
        self.until(lambda: self.get("/readyz")[0] == 200, within_s=STARTED_WITHIN_S)

    def crash(self) -> None:
        """As when the power goes."""
        assert self.pid is not None
        os.killpg(self.pid, signal.SIGKILL)
        self.ended()

    def lose_disk(self) -> None:
        """All that a new machine would not have."""
        shutil.rmtree(self.folder / "data")

    def close(self) -> None:
        if (pid := self.pid) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        super().close()

    def replica(self, to: Path) -> Path | None:
        """What Litestream would restore at this moment; None if nothing."""
        to.unlink(missing_ok=True)
        environ = {
            **self.environ,
            "LITESTREAM_DATABASE": str(self.database),
            "LITESTREAM_REPLICA": f"{self.environ['LITESTREAM_URL']}/{self.name}",
        }
        command = [self.program, "restore", "-if-replica-exists", "-o", str(to), str(self.database)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        # While Litestream merges its files, one that was listed may be gone when it is read.
        return to if done.returncode == 0 and to.exists() else None

    def until_replicated(self, question: str, *wanted: object) -> None:
        """Waits until what would be restored has these rows for an answer, and is whole."""
        copy = self.folder / "as restored.db"

        def is_there() -> bool:
            if self.replica(copy) is None:
                return False
            with contextlib.closing(sqlite3.connect(copy)) as file:
                assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                try:
                    return bool(file.execute(question).fetchall() == [*wanted])
                except sqlite3.OperationalError:  # not so far: no such table
                    return False

        self.until(is_there, within_s=REPLICATED_WITHIN_S)


@contextlib.contextmanager
def ended(*nodes: NodeProcess) -> Iterator[None]:
    """Whatever happens, these are ended afterwards."""
    try:
        yield
    finally:
        for node in nodes:
            node.close()
