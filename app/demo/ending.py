"""The end of a demo, whatever happens: signals that are noticed between two steps, and a folder that is removed.

SIGINT, SIGTERM and SIGHUP end it in order; a second one ends it at once. They are noticed by the event loop, and never
in the middle of a step: what was started is always known to whoever has to stop it."""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from app.demo.errors import DemoError

FOLDER_PREFIX = "litecast-demo-"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """The first signal cancels the task; once it is ending anyway, any signal makes that faster."""

    def __init__(self, task: asyncio.Task[int]) -> None:
        self._task: asyncio.Task[int] | None = task
        self.signal: int | None = None
        self.hurry = asyncio.Event()

    def no_more(self) -> None:
        """From now on the task is not cancelled: it cleans up."""
        self._task = None

    def came(self, signum: int) -> None:
        if self.signal is None:
            self.signal = signum
            if self._task is not None:
                self._task.cancel()
                self._task = None
                return
        self.hurry.set()


@contextlib.contextmanager
def signals_end_this_task() -> Iterator[Ending]:
    """While it lasts, a signal cancels the task. Belongs on the main thread."""
    task = asyncio.current_task()
    assert task is not None
    ending = Ending(task)
    loop = asyncio.get_running_loop()
    # Who started us under nohup wants a closed terminal to be ignored.
    handled = [
        signum for signum in _SIGNALS if signum is not signal.SIGHUP or signal.getsignal(signum) is signal.SIG_DFL
    ]
    for signum in handled:
        loop.add_signal_handler(signum, ending.came, int(signum))
    try:
        yield ending
    finally:
        for signum in handled:
            loop.remove_signal_handler(signum)


def make_folder() -> Path:
    """A temporary folder. Raises DemoError."""
    try:
        return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX)).resolve()
    except OSError as error:
        raise DemoError(f"no temporary folder can be made ({error}); set TMPDIR to one that can be written") from None


def remove(folder: Path) -> None:
    """Removes it; what keeps it there is said on standard error."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        sys.stderr.write(f"litecast: {folder} could not be removed: {error}; remove it by hand\n")
