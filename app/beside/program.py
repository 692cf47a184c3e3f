"""The program's process: started in a group of its own, sent signals, waited for, and ended with all of its group.

Everything here happens in the event loop's thread, which has to be the main one. `child_ended` belongs to SIGCHLD. As a
container's first process, a node is given every process whose parent has ended, and has to wait for those, too: else
they would stay as zombies.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from app.beside import launch
from app.errors import AppError

log = logging.getLogger(__name__)

STOP_WITHIN_S = 10.0
"""What a program has to stop when its node must: what container managers grant, too."""
POLL_S = 0.02
TO_THE_GROUP = frozenset({signal.SIGINT, signal.SIGQUIT})
"""A terminal sends these to every process of a job. Others are for the program itself, which knows its processes."""


class ProgramNotStarted(AppError):
    """There is no such program, or it cannot be run. `exit_status` is what a shell would say of it."""

    def __init__(self, name: str, problem: str, exit_status: int) -> None:
        self.exit_status = exit_status
        super().__init__(f"{name} {problem}; name the program after --, by its path or as PATH finds it")


class Program:
    """One run of a command. `start` it once; `stop` may be called at any time."""

    def __init__(self, command: Sequence[str]) -> None:
        self.name = Path(command[0]).name
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()

    @property
    def was_started(self) -> bool:
        """Whether it runs, or has ended."""
        return self._process is not None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and not self._ended.is_set()

    def start(self, environment: Mapping[str, str]) -> None:
        """Starts it, with this node's standard streams; a terminal stays the node's, so nothing is read from there.

        Raises ProgramNotStarted if the system has no room for one more process.
        """
        own = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                own + self._command,
                stdin=subprocess.DEVNULL if os.isatty(0) else None,
                env=environment,
                process_group=0,
            )
        except OSError as error:
            problem = f"cannot be started ({error.strerror})"
            raise ProgramNotStarted(self.name, problem, launch.EXIT_NOT_EXECUTABLE) from error
        log.info("%s was started, process %d", self.name, self._process.pid)

    def send(self, number: signal.Signals) -> None:
        """Passes a signal on; nothing happens if the program is not running."""
        if self._process is None or not self.is_running:
            return
        if number in TO_THE_GROUP:
            _send_to_group(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def child_ended(self) -> None:
        """Waits for whatever children have ended, the program or others. To be called on SIGCHLD."""
        for child in _ended_children():
            if self._process is None or child != self._process.pid:
                os.waitpid(child, 0)
                log.debug("a process that had lost its parent has ended: %d", child)
            elif self._process.poll() is not None:
                self._ended.set()

    async def ended(self) -> int:
        """Its exit status once it has ended, 128 + n if signal n ended it. Cancelling leaves the program as it is."""
        await self._ended.wait()
        assert self._process is not None
        assert self._process.returncode is not None
        return exit_status(self._process.returncode)

    async def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Ends it, and all that is left of its process group: SIGTERM, and SIGKILL to who is there after `within_s`.

        Returns when they are gone.
        """
        if self._process is None:
            return
        group = self._process.pid
        if not self.is_running and not _send_to_group(group, 0):
            return
        log.info("ending %s", self.name if self.is_running else f"what {self.name} has left behind")
        _send_to_group(group, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ended.wait()
                while True:
                    if not _send_to_group(group, 0):
                        return
                    await asyncio.sleep(POLL_S)
        log.warning("not everything of %s has ended within %g s of SIGTERM: SIGKILL", self.name, within_s)
        _send_to_group(group, signal.SIGKILL)
        await self._ended.wait()


def exit_status(returncode: int) -> int:
    """What a shell says of a process that ended so, where a negative number is that of a signal."""
    return returncode if returncode >= 0 else 128 - returncode


def _send_to_group(group: int, number: int) -> bool:
    """Whether anybody is in the group. Signal 0 does nothing to them."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # a program under another user's name: there, and not ours to end
        return False
    return True


def _ended_children() -> Iterator[int]:
    """Children that have ended, each until it is waited for."""
    try:
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            yield found.si_pid
    except ChildProcessError:  # there are none
        return
