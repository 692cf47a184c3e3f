"""`litecast demo --disaster`: all nodes are killed under load, all disks deleted, and the nodes started again.

Each node has a page of its own, which is viewed there and nowhere else. So what its file says of that page, at a
moment, is before one stamp of its own site; and once the backup has reported that stamp as safe, those views must come
back."""

import asyncio
import contextlib
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

from app.config.model import Mode
from app.demo.cluster import DemoCluster
from app.demo.counts import CountReader
from app.demo.ending import make_folder, remove, signals_end_this_task
from app.demo.errors import DemoError
from app.demo.lost import Loss, PageLoss
from app.demo.plan import Plan
from app.demo.traffic import Outcome, Traffic
from replication.positions import Position, PositionError, of_next_fold

PROMISE_BROKEN = 1
SAFE_WITHIN_S = 60.0
"""The first snapshot has to be there before anything is safe."""
LOAD_S = 4.0
"""For so long after that there is load."""
VISITORS_PER_NODE = 2
LOOK_S = 0.1
EQUAL_WITHIN_S = 30.0
BUSY_TIMEOUT_S = 0.05
_FROM = "the database "
"""What a node's log says of where its database comes from begins so."""

type Step = Callable[[str], None]


async def run_disaster(plan: Plan, step: Step, told: Callable[[Loss], None], *, url: str | None = None) -> int:
    """Plays it, has the result told, and gives the exit status, as `run.run_demo` does. `url`: where the backup is put,
    in a folder of its own; None for a temporary folder. Raises DemoError."""
    loss: Loss | None = None
    with signals_end_this_task() as ending:
        folder = make_folder()
        backup = f"{url.rstrip('/')}/{folder.name}" if url else (folder / "bucket").as_uri()
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                cluster = DemoCluster(folder / Mode.CONVERGENT, plan.nodes, client, Mode.CONVERGENT, backup=backup)
                try:
                    loss = await _play(cluster, plan, backup, step)
                    told(loss)
                finally:
                    ending.no_more()
                    await cluster.stop(hurry=ending.hurry)
        except asyncio.CancelledError:
            if ending.signal is None:
                raise
        finally:
            ending.no_more()
            remove(folder)
    if ending.signal is not None:
        return 128 + ending.signal
    return PROMISE_BROKEN if loss is None or loss.problems else 0


async def _play(cluster: DemoCluster, plan: Plan, backup: str, step: Step) -> Loss:
    step(f"starting {len(plan.nodes)} nodes with a backup")
    await cluster.start()
    pages = {node: f"views-of-{node}" for node in plan.names}
    load = _Load(cluster, pages)
    try:
        step("visitors come to all nodes, and what they do is uploaded")
        await load.until_safe()
        await asyncio.sleep(LOAD_S)
        step("all nodes are killed, and their disks are deleted")
        killed_s = time.monotonic()
        await asyncio.gather(*(cluster.kill(node) for node in plan.names))
    finally:
        await load.stop()
    for node in plan.names:
        cluster.lose_disk(node)
    step("starting the nodes again, with nothing but the backup")
    began_s = time.monotonic()
    await cluster.start()
    counts = await _equal(cluster, pages, {node: load.safe[node] for node in plan.names})
    return Loss(
        backup=backup,
        back_s=time.monotonic() - began_s,
        origins={node: _origin(cluster.files[node].log_file) for node in plan.names},
        pages=[
            PageLoss(
                node=node,
                answered_s=load.answered_s[node],
                unknown=load.traffic.tally(page, Outcome.UNKNOWN),
                safe=load.safe[node],
                killed_s=killed_s,
                counts=counts[page],
            )
            for node, page in pages.items()
        ],
    )


class _Load:
    """Visitors of all nodes, and for each node a look at what it has counted and what it reports as safe."""

    def __init__(self, cluster: DemoCluster, pages: Mapping[str, str]) -> None:
        self.traffic = Traffic(lambda: {name: files.http_port for name, files in cluster.files.items()})
        self.safe: dict[str, int] = dict.fromkeys(pages, 0)
        """By node, so many views of its page come back."""
        self.answered_s: defaultdict[str, list[float]] = defaultdict(list)
        self._cluster = cluster
        self._pages = pages
        self._problem = "no node reported anything"
        self._tasks = [
            *(asyncio.create_task(self._visit(node)) for node in pages for _ in range(VISITORS_PER_NODE)),
            *(asyncio.create_task(self._look(node)) for node in pages),
        ]

    async def until_safe(self) -> None:
        """Returns when every node has reported something as safe. Raises DemoError."""
        deadline_s = time.monotonic() + SAFE_WITHIN_S
        while not all(self.safe.values()):
            if time.monotonic() > deadline_s:
                raise DemoError(f"nothing was safe in the backup within {SAFE_WITHIN_S:.0f} s: {self._problem}")
            if ended := [task for task in self._tasks if task.done()]:
                await asyncio.gather(*ended)
            await asyncio.sleep(LOOK_S)

    async def stop(self) -> None:
        """No visitor is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.traffic.close()

    async def _visit(self, node: str) -> None:
        while True:
            if await self.traffic.view(node, self._pages[node]) is Outcome.COUNTED:
                self.answered_s[node].append(time.monotonic())
            else:
                await asyncio.sleep(LOOK_S)

    async def _look(self, node: str) -> None:
        """What the file says now is safe as soon as the node has reported a position that covers it."""
        waiting: list[tuple[Position, int]] = []
        while True:
            with contextlib.suppress(sqlite3.OperationalError), _opened(self._cluster.files[node].database) as file:
                waiting.append(_counted(file, self._pages[node]))
            said = await self._cluster.backup(node)
            self._problem = str(said.get("problem") or said.get("doing") or self._problem)
            with contextlib.suppress(PositionError):
                reached = Position.parse(str(said.get("position", ""))).stamps
                for position, count in waiting:
                    if all(reached.get(site, -1) >= stamp for site, stamp in position.stamps.items()):
                        self.safe[node] = max(count, self.safe[node])
                waiting = [one for one in waiting if one[1] > self.safe[node]]
            await asyncio.sleep(LOOK_S)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    with contextlib.closing(connection):
        yield connection


def _counted(file: sqlite3.Connection, page: str) -> tuple[Position, int]:
    """The views in a node's file, and a position after all of them. Raises sqlite3.OperationalError."""
    file.execute("BEGIN")
    (count,) = file.execute("SELECT coalesce(sum(count), 0) FROM page_counts WHERE page = ?", (page,)).fetchone()
    return of_next_fold(file), int(count)


async def _equal(cluster: DemoCluster, pages: Mapping[str, str], safe: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """What each node's file says of each page, once all say the same and have what was safe; else after some time."""
    reader = CountReader({name: files.database for name, files in cluster.files.items()})
    deadline_s = time.monotonic() + EQUAL_WITHIN_S
    try:
        while True:
            counts = {page: await reader.wait_and_read(page) for page in pages.values()}
            is_well = all(
                len(set(counts[page].values())) == 1 and min(counts[page].values()) >= safe[node]
                for node, page in pages.items()
            )
            if is_well or time.monotonic() > deadline_s:
                return counts
            await asyncio.sleep(LOOK_S)
    finally:
        reader.close()


def _origin(log_file: Path) -> str:
    """Where a node that began without a database says that it has it from."""
    lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line[line.index(_FROM) :] for line in reversed(lines) if _FROM in line), "")
