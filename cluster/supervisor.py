"""Supervisors restart crashed actors, and give up upwards when restarting does not help.

`one_for_one` restarts the one that crashed; `rest_for_one` also those that were started after it, in order, since they
may depend on it. More than `max_restarts` crashes within `within_s` seconds: the supervisor stops all its children and
fails itself, which is a crash to *its* supervisor and, at the top, ends the node. A child whose factory raises counts
as one that crashed at once.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from cluster.actor import MAILBOX_MAX_MESSAGES, Actor, Process
from cluster.counters import Count, Counters
from cluster.errors import SupervisorGaveUp
from cluster.restarts import RestartIntensity

log = logging.getLogger(__name__)


class Strategy(Enum):
    """Which children a crash restarts."""

    ONE_FOR_ONE = "one_for_one"
    REST_FOR_ONE = "rest_for_one"


class Registry(Protocol):
    """Who knows the running actors by name (a node does)."""

    counters: Counters

    def register(self, process: Process) -> None:
        """Make the process reachable under its name; raises ValueError if the name is in use."""

    def unregister(self, process: Process) -> None:
        """Forget it; no effect if another process has the name by now."""


class Child(Protocol):
    """What a supervisor supervises: an actor or another supervisor, made anew at each start."""

    name: str

    def launch(self, registry: Registry, exited: Callable[[BaseException | None], None]) -> "Running":
        """Start it. `exited` must be called once when it ends, with its error or None."""


class Running(Protocol):
    """A started child."""

    async def stop(self) -> None:
        """End it in order."""


class ActorChild:
    """A child that is one actor; `make` gives a fresh one at each start."""

    def __init__(
        self, name: str, make: Callable[[], Actor], *, mailbox_max_messages: int = MAILBOX_MAX_MESSAGES
    ) -> None:
        self.name = name
        self._make = make
        self._mailbox_max_messages = mailbox_max_messages

    def launch(self, registry: Registry, exited: Callable[[BaseException | None], None]) -> Running:
        actor = self._make()
        if actor.name != self.name:
            raise ValueError(f"the factory of child {self.name!r} made an actor named {actor.name!r}")

        def ended(process: Process, error: BaseException | None) -> None:
            registry.unregister(process)
            exited(error)

        process = Process(
            actor, counters=registry.counters, exited=ended, mailbox_max_messages=self._mailbox_max_messages
        )
        registry.register(process)
        process.start()
        return process


class Supervisor:
    """Starts its children in order and stops them in reverse order. Is itself a `Child` and a `Running`."""

    def __init__(
        self,
        name: str,
        children: Sequence[Child],
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        within_s: float = 5.0,
    ) -> None:
        self.name = name
        self._children = list(children)
        self._strategy = strategy
        self._max_restarts = max_restarts
        self._within_s = within_s

    def launch(self, registry: Registry, exited: Callable[[BaseException | None], None]) -> Running:
        """Start all children; `exited` gets `SupervisorGaveUp` when it gives up, None when it was stopped."""
        running = _RunningSupervisor(
            self.name,
            self._children,
            self._strategy,
            RestartIntensity(max_restarts=self._max_restarts, within_s=self._within_s),
            registry,
            exited,
        )
        running.start()
        return running


class _RunningSupervisor:
    def __init__(
        self,
        name: str,
        children: list[Child],
        strategy: Strategy,
        intensity: RestartIntensity,
        registry: Registry,
        exited: Callable[[BaseException | None], None],
    ) -> None:
        self.name = name
        self._children = children
        self._strategy = strategy
        self._intensity = intensity
        self._registry = registry
        self._exited = exited
        self._running: dict[int, Running] = {}
        self._crashes: asyncio.Queue[tuple[int, Running, BaseException]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        for index in range(len(self._children)):
            self._launch(index)
        self._task = asyncio.get_running_loop().create_task(self._watch(), name=f"supervisor {self.name}")

    def _launch(self, index: int) -> None:
        holder: list[Running] = []

        def exited(error: BaseException | None) -> None:
            if error is not None and not self._stopping:
                self._crashes.put_nowait((index, holder[0], error))

        try:
            holder.append(self._children[index].launch(self._registry, exited))
        except Exception as exc:
            # Were this to get out, a restart would end the supervisor instead, and nobody would be told.
            log.error("%s could not be started: %s: %s", self._children[index].name, type(exc).__name__, exc)
            self._registry.counters.increment(Count.CRASHES)
            holder.append(_NeverRan())
            exited(exc)
        self._running[index] = holder[0]

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            index, crashed, error = await self._crashes.get()
            if self._running.get(index) is not crashed:
                continue  # it was replaced already, by a sibling's crash
            if not self._intensity.allows(loop.time()):
                await self._stop_children()
                child = self._children[index].name
                self._exited(SupervisorGaveUp(child, self._intensity.max_restarts, self._intensity.within_s, error))
                return
            if self._strategy is Strategy.REST_FOR_ONE:
                later = [other for other in sorted(self._running) if other > index]
                for other in reversed(later):
                    # It leaves the table after it has stopped: if we are stopped meanwhile, it still has to be.
                    await self._running[other].stop()
                    del self._running[other]
                for other in [index, *later]:
                    self._launch(other)
            else:
                self._launch(index)

    async def _stop_children(self) -> None:
        self._stopping = True
        for index in sorted(self._running, reverse=True):
            await self._running[index].stop()

    async def stop(self) -> None:
        if self._task is None or self._task.done():
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._stop_children()
        self._exited(None)


class _NeverRan:
    """In the place of a child that could not be made."""

    async def stop(self) -> None:
        """Nothing runs."""
