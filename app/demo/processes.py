"""One node process of the demo.

It runs in a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which then stops its nodes in
order. It cannot outlive the demo: see `app.demo.child`.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time

from app.demo.config_files import NodeFiles
from app.demo.errors import DemoError

STOP_WITHIN_S = 4.0  # a node promises two seconds; a busy machine may need longer
POLL_S = 0.01
TAIL_LINES = 12

# Settings of whoever runs the demo override a node's file; its nodes are to be as the demo says.
_OVERRIDING = ("LITECAST_", "FLY_", "MY_REGION", "PRIMARY_REGION", "DATABASE_PATH")


class NodeProcess:
    """Starts, watches and ends the process of one node."""

    def __init__(self, files: NodeFiles) -> None:
        self.files = files
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_status(self) -> int | None:
        """How it ended: an exit status, or a signal as a negative number; None while it runs or was never started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Starts the process. Raises DemoError if the system has no room for it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OVERRIDING)}
        try:
            with self.files.log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    # -P: a folder called `app` where the demo is run must not be taken for ours.
                    [sys.executable, "-P", "-m", "app.demo.child", "--config", str(self.files.config_file)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise DemoError(f"no process could be started for node {self.files.name}: {error}") from None

    def send(self, signum: signal.Signals) -> None:
        """Sends a signal; does nothing if the process has ended."""
        if self._process is not None:
            self._process.send_signal(signum)

    async def wait(self, within_s: float) -> bool:
        """Whether it ended within so many seconds. Cancelling leaves the process as it is."""
        deadline = time.monotonic() + within_s
        while self.pid is not None:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        self._close()
        return True

    async def kill(self) -> None:
        """Ends the process as a power cut would, and returns when it is gone."""
        self.send(signal.SIGKILL)
        while not await self.wait(STOP_WITHIN_S):
            self.send(signal.SIGKILL)

    def log_tail(self) -> str:
        """The last lines that the node wrote."""
        try:
            lines = self.files.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
