"""One cluster for each mode that is played: its own processes, files and secret, and the same plan."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import httpx

from app.config.model import Mode
from app.demo.cluster import DemoCluster
from app.demo.plan import Act, Plan

PRIMARY_NODES_MIN: Final = 3
"""Of two nodes, one is no majority: where one is gone, nobody may write."""


def modes_of(act: Act, nodes: int) -> tuple[Mode, ...]:
    """The modes in which so many nodes play the act, in this order, each with the same traffic and faults."""
    primary = (Mode.PRIMARY,) if nodes >= PRIMARY_NODES_MIN else ()
    match act:
        case Act.ALONE:
            return (Mode.NONE,)
        case Act.KILLED:
            return primary
        case _:
            return Mode.NAIVE, Mode.CONVERGENT, *primary


def acts_of(nodes: int) -> list[Act]:
    """The acts that so many nodes play."""
    return [act for act in Act if modes_of(act, nodes)]


class Clusters:
    """The clusters by mode. Whoever makes one calls `stop`; no process starts before `ready`."""

    def __init__(self, folder: Path, plan: Plan, client: httpx.AsyncClient) -> None:
        self._plan = plan
        self._clusters = {mode: DemoCluster(folder / mode, plan.nodes, client, mode) for mode in Mode}

    @property
    def running(self) -> list[DemoCluster]:
        """Those that have nodes that run."""
        return [cluster for cluster in self._clusters.values() if cluster.running]

    async def ready(self, modes: Sequence[Mode], step: Callable[[str], None]) -> list[DemoCluster]:
        """The clusters of these modes, with all nodes up; those of other modes are stopped. Raises DemoError.

        Clusters that are compared run beside each other, so that no act waits for processes to start. A cluster that
        nobody asks costs next to nothing.
        """
        await asyncio.gather(*(cluster.stop() for cluster in self.running if cluster.mode not in modes))
        wanted = [self._clusters[mode] for mode in modes]
        for cluster in wanted:
            if not cluster.running:
                step(f"starting {len(self._plan.nodes)} nodes with replication mode {cluster.mode}")
                await cluster.start()
        return wanted

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Ends all nodes; none is left. See `DemoCluster.stop`."""
        await asyncio.gather(*(cluster.stop(hurry=hurry) for cluster in self._clusters.values()))
