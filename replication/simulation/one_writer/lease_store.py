"""The store of the lease, on virtual time: slow, down, answering late, or not answering what it has done.

What is asked for is done in the store's own time, whether who asked for it is still alive or not."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

from cluster.errors import LeaseUnreachable
from cluster.lease.record import decode
from replication.simulation.application import CLUSTER
from replication.simulation.world import World

LATENCY_S: Final = 0.03


class LeaseStore:
    """See the module. All nodes ask this one, and it never grants one epoch twice, or says so."""

    def __init__(self, world: World) -> None:
        self.is_down = False
        self.slow_s = 0.0
        """Each question, and each answer, takes up to so much longer."""
        self.loses_answers = 0.0
        """The share of questions that are done, and not answered."""
        self._world = world
        self._random: Random = world.stream("lease store")
        self._objects: dict[int, bytes] = {}
        self._epochs: list[int] = []

    # --- Objects ---

    async def newest(self) -> int:
        """See `Objects`, as for all that follow."""
        return await self._ask(lambda: max(self._objects, default=0))

    async def get(self, number: int) -> bytes | None:
        return await self._ask(lambda: self._objects.get(number))

    async def put(self, number: int, content: bytes) -> None:
        await self._ask(lambda: self._objects.update({number: content}))

    async def create(self, number: int, content: bytes) -> bool:
        def create() -> bool:
            if number in self._objects:
                return False
            self._objects[number] = content
            if number == max(self._objects):
                self._note_epoch(number, content)
            return True

        return await self._ask(create)

    async def delete_before(self, number: int) -> None:
        def delete() -> None:
            for one in [one for one in self._objects if one < number]:
                del self._objects[one]

        await self._ask(delete)

    def place(self, number: int) -> str:
        return f"the simulated store, object {number}"

    # --- how it is asked ---

    def _note_epoch(self, number: int, content: bytes) -> None:
        record = decode(content, place=self.place(number), cluster=CLUSTER)
        if self._epochs and record.epoch <= self._epochs[-1]:
            self._world.fail(f"epoch {record.epoch} was granted after epoch {self._epochs[-1]}")
        self._epochs.append(record.epoch)
        self._world.say("lease", f"epoch {record.epoch} is granted to {record.node}")

    async def _ask[T](self, step: Callable[[], T]) -> T:
        loop, context = asyncio.get_running_loop(), self._world.network.context
        answer: asyncio.Future[T] = loop.create_future()

        def answered(result: T) -> None:
            if not answer.done():
                answer.set_result(result)

        def failed() -> None:
            if not answer.done():
                answer.set_exception(LeaseUnreachable("the store is down"))

        def do() -> None:
            if self.is_down:
                loop.call_later(self._takes_s(), failed, context=context)
                return
            result = step()
            if self._random.random() < self.loses_answers:
                self._world.note("lease store: done, and not answered")
            else:
                loop.call_later(self._takes_s(), answered, result, context=context)

        loop.call_later(self._takes_s(), do, context=context)
        return await answer

    def _takes_s(self) -> float:
        return LATENCY_S * self._random.random() + self.slow_s * self._random.random()
