"""The demo from beginning to end, and the end whatever happens: no process and no file is left.

Signals are noticed between two steps (see `app.demo.ending`). If the demo is killed outright, its nodes end by
themselves (see `app.demo.child`).
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import httpx

from app.demo.acts import Stage
from app.demo.cluster import DemoCluster
from app.demo.clusters import Clusters, acts_of, modes_of
from app.demo.counts import CountReader
from app.demo.ending import make_folder, remove, signals_end_this_task
from app.demo.entry import entry
from app.demo.errors import DemoError
from app.demo.plan import Act, Plan
from app.demo.results import ActResult, broken_promises
from app.demo.traffic import Traffic

PROMISE_BROKEN = 1
KEEP_POLL_S = 0.3


class Audience(Protocol):
    """Who is told how the demo goes."""

    def begins(self, plan: Plan) -> None:
        """Before anything is started."""

    def step(self, text: str) -> None:
        """What is being done now."""

    def act_begins(self, act: Act) -> None:
        """Before each act."""

    def act_ended(self, runs: Sequence[ActResult]) -> None:
        """After each act, with its run in each mode."""

    def ends(self, plan: Plan, results: list[ActResult]) -> None:
        """After the last act, while the nodes still run."""

    def kept(self, addresses: Mapping[str, Mapping[str, str]]) -> None:
        """The clusters go on running: by mode, name and URL of each node."""

    def node_ended(self, mode: str, node: str, last_words: str) -> None:
        """A node of a cluster that goes on running has ended by itself."""

    def pause(self) -> None:
        """Nothing is being done any more."""


async def run_demo(plan: Plan, audience: Audience, *, keep: bool = False) -> int:
    """Plays all acts and gives the exit status.

    That is 0; `PROMISE_BROKEN` if a run in mode convergent or primary lost a count or left the nodes different; or 128
    and the number of the signal that ended it. With `keep` the clusters then run on until a signal comes, which is an
    end in order. Raises DemoError if an act could not be run. Belongs on the main thread: it takes over the signals.
    """
    with signals_end_this_task() as ending:
        results: list[ActResult] = []
        kept = False
        folder = make_folder()
        try:
            async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None)) as client:
                clusters = Clusters(folder, plan, client)
                try:
                    await _play(plan, clusters, audience, results)
                    if keep:
                        kept = True
                        await _keep(clusters, audience)
                finally:
                    ending.no_more()
                    audience.pause()
                    await clusters.stop(hurry=ending.hurry)
        except asyncio.CancelledError:
            if ending.signal is None:
                raise
        finally:
            ending.no_more()
            audience.pause()
            remove(folder)
    if ending.signal is not None and not kept:
        return 128 + ending.signal
    return PROMISE_BROKEN if broken_promises(results) else 0


async def _play(plan: Plan, clusters: Clusters, audience: Audience, results: list[ActResult]) -> None:
    """Plays all acts; `results` grows by each run."""
    audience.begins(plan)
    for act in acts_of(len(plan.nodes)):
        try:
            playing = await clusters.ready(modes_of(act, len(plan.nodes)), audience.step)
            audience.act_begins(act)
            runs: list[ActResult] = []
            for cluster in playing:
                runs.append(await _run(plan, act, cluster, audience, runs))
        except DemoError as error:
            raise DemoError(f"act {act.value} could not be run: {error}", log_tail=error.log_tail) from None
        results += runs
        audience.act_ended(runs)
    audience.ends(plan, results)


async def _run(
    plan: Plan, act: Act, cluster: DemoCluster, audience: Audience, before: Sequence[ActResult]
) -> ActResult:
    """Plays an act in one mode, with the traffic that it had in the modes before."""
    await cluster.revive()
    async with contextlib.AsyncExitStack() as stack:
        reader = CountReader({name: files.database for name, files in cluster.files.items()})
        stack.callback(reader.close)
        through = None
        if act is Act.KILLED:  # in the others it would be measured along: each view takes it a connection and 20 ms
            through = await stack.enter_async_context(entry(files.http_port for files in cluster.files.values()))
        traffic = Traffic(lambda: {name: files.http_port for name, files in cluster.files.items()}, entry=through)
        stack.callback(traffic.close)
        stage = Stage(plan, cluster, traffic, reader, attempts=before[0].attempts if before else None)
        return await stage.play(act, lambda text: audience.step(f"{cluster.mode}: {text}"))


async def _keep(clusters: Clusters, audience: Audience) -> None:
    running: set[tuple[DemoCluster, str]] = set()
    for cluster in clusters.running:
        await cluster.revive()
        running |= {(cluster, node) for node in cluster.running}
    audience.kept(
        {cluster.mode: {name: files.url for name, files in cluster.files.items()} for cluster in clusters.running}
    )
    while True:
        for cluster, node in sorted(running, key=lambda one: (one[0].mode, one[1])):
            if node not in cluster.running:
                running.remove((cluster, node))
                audience.node_ended(cluster.mode, node, cluster.last_words(node))
        await asyncio.sleep(KEEP_POLL_S)
