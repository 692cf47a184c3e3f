"""The demo from beginning to end, and the end whatever happens: no process and no file is left.

SIGINT, SIGTERM and SIGHUP end it in order; a second one ends it at once. They are noticed by the event loop, between
two steps, and never in the middle of one: what was started is always known to whoever has to stop it. If the demo is
killed outright, its nodes end by themselves (see `app.demo.child`).
"""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import httpx

from app.demo.acts import Stage
from app.demo.cluster import DemoCluster
from app.demo.counts import CountReader
from app.demo.errors import DemoError
from app.demo.plan import Act, Plan
from app.demo.story import ActResult
from app.demo.traffic import Traffic

ALONE_MODE, REPLICATED_MODE = "none", "naive"
FOLDER_PREFIX = "litecast-demo-"
KEEP_POLL_S = 0.3
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Audience(Protocol):
    """Who is told how the demo goes."""

    def begins(self, plan: Plan) -> None:
        """Before anything is started."""

    def step(self, text: str) -> None:
        """What is being done now."""

    def act_begins(self, act: Act) -> None:
        """Before each act."""

    def act_ended(self, result: ActResult) -> None:
        """After each act."""

    def ends(self, plan: Plan, results: list[ActResult]) -> None:
        """After the last act, while the nodes still run."""

    def kept(self, addresses: dict[str, str]) -> None:
        """The cluster goes on running: name and URL of each node."""

    def node_ended(self, node: str, last_words: str) -> None:
        """A node of a cluster that goes on running has ended by itself."""

    def pause(self) -> None:
        """Nothing is being done any more."""


async def run_demo(plan: Plan, audience: Audience, *, keep: bool = False) -> int:
    """Plays all acts and gives the exit status: 0, or 128 and the number of the signal that ended it.

    With `keep` the cluster then runs on until a signal comes; that is an end in order, and gives 0. Raises DemoError
    if an act could not be run. Belongs on the main thread, since it takes over the signals.
    """
    with _signals_end_this_task() as ending:
        kept = False
        folder = _make_folder()
        try:
            async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None)) as client:
                cluster = DemoCluster(folder, plan.nodes, client)
                try:
                    await _play(plan, cluster, audience)
                    if keep:
                        kept = True
                        await _keep(cluster, audience)
                finally:
                    ending.no_more()
                    audience.pause()
                    await cluster.stop(hurry=ending.hurry)
        except asyncio.CancelledError:
            if ending.signal is None:
                raise
        finally:
            ending.no_more()
            audience.pause()
            _remove(folder)
    return 0 if ending.signal is None or kept else 128 + ending.signal


async def _play(plan: Plan, cluster: DemoCluster, audience: Audience) -> None:
    audience.begins(plan)
    results: list[ActResult] = []
    for act in Act:
        mode = ALONE_MODE if act is Act.ALONE else REPLICATED_MODE
        try:
            if cluster.mode != mode:
                again = "again " if cluster.mode else ""
                audience.step(f"starting {len(plan.nodes)} nodes {again}with replication mode {mode}")
                await cluster.stop()
                await cluster.start(mode)
            await cluster.revive()
            audience.act_begins(act)
            reader = CountReader({name: files.database for name, files in cluster.files.items()})
            traffic = Traffic(lambda: {name: files.http_port for name, files in cluster.files.items()})
            try:
                result = await Stage(plan, cluster, traffic, reader).play(act, audience.step)
            finally:
                traffic.close()
                reader.close()
        except DemoError as error:
            raise DemoError(f"act {act.value} could not be run: {error}", log_tail=error.log_tail) from None
        results.append(result)
        audience.act_ended(result)
    audience.ends(plan, results)


async def _keep(cluster: DemoCluster, audience: Audience) -> None:
    await cluster.revive()
    audience.kept({name: files.url for name, files in cluster.files.items()})
    running = set(cluster.running)
    while True:
        for node in sorted(running - set(cluster.running)):
            audience.node_ended(node, cluster.last_words(node))
        running &= set(cluster.running)
        await asyncio.sleep(KEEP_POLL_S)


class _Ending:
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
def _signals_end_this_task() -> Iterator[_Ending]:
    task = asyncio.current_task()
    assert task is not None
    ending = _Ending(task)
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


def _make_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX)).resolve()
    except OSError as error:
        raise DemoError(f"no temporary folder can be made ({error}); set TMPDIR to one that can be written") from None


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        sys.stderr.write(f"litecast: {folder} could not be removed: {error}; remove it by hand\n")
