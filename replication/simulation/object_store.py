"""An object store on virtual time: slow, down, throttling, silent about what it has done, late with its lists.

What is asked for is done in the store's own time, whether who asked for it is still alive or not. What is on its
disks it keeps as it is; only what it answers may be spoiled. `spoiled` is that, and what may be made of a copy."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from replication.backup.bucket import Lying
from replication.backup.envelope import MAGIC
from replication.backup.errors import BackupDamaged, BackupUnreachable
from replication.simulation.world import EPOCH_MS, World

LATENCY_S: Final = 0.03
GIVEN_UP_AFTER_S: Final = 2.0
"""So long is waited for an answer. A real node waits longer, and so do those who wait for it."""

type Spoil = Callable[[bytes, Random], bytes | None]


def _truncated(content: bytes, random: Random) -> bytes:
    return content[: random.randrange(len(content))]


def _altered(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]


def _newer(content: bytes, _random: Random) -> bytes:
    """As a later version of Litecast would write it: nobody can read it."""
    if content.startswith(MAGIC):
        return MAGIC + bytes([content[4] + 1]) + content[5:]
    return content.replace(b": 1", b": 9", 1)


SPOILS: Final[dict[str, Spoil]] = {
    "missing": lambda _content, _random: None,
    "truncated": _truncated,
    "altered": _altered,
    "newer": _newer,
}


class ObjectStore:
    """See the module. All machines have their `Bucket` of this one."""

    def __init__(self, world: World) -> None:
        self.objects: dict[str, bytes] = {}
        """What is there, whatever is answered."""
        self.is_down = False
        self.slow_s = 0.0
        """Each question, and each answer, takes up to so much longer."""
        self.lists_after_s = 0.0
        """So long after an object was created no list has it."""
        self.throttles = 0.0
        """The share of questions that are refused, as by 429 and 503; and of those below that are what they say."""
        self.loses_answers = 0.0
        self.does_twice = 0.0
        """Something on the way asks again, and the second answer is what comes."""
        self.spoils = 0.0
        self.refuses: set[str] = set()
        """Those with wrong credentials."""
        self.was_spoiled = False
        """Some answer was."""
        self._world = world
        self._random = world.stream("object store")
        self._created_s: dict[str, float] = {}

    def mend(self) -> None:
        """From now on all is well."""
        self.is_down = False
        self.slow_s = self.lists_after_s = self.throttles = self.loses_answers = self.does_twice = self.spoils = 0.0
        self.refuses.clear()

    def create(self, name: str, content: bytes) -> bool:
        """If there is none of that name: whether there was none."""
        if name in self.objects:
            return False
        self.objects[name] = content
        self._created_s[name] = self._world.loop.time()
        self._world.say("bucket", f"{name}, {len(content)} bytes")
        return True

    def put(self, name: str, content: bytes) -> None:
        """Over what is there."""
        self.objects[name] = content
        self._created_s.setdefault(name, self._world.loop.time())

    def delete(self, names: Sequence[str]) -> None:
        """Those that are there."""
        for name in names:
            if self.objects.pop(name, None) is not None:
                self._world.say("bucket", f"{name} is removed")

    def get(self, name: str) -> bytes | None:
        """What is answered."""
        content = self.objects.get(name)
        if content is None or self._random.random() >= self.spoils:
            return content
        how = self._random.choice(sorted(SPOILS.keys() - {"missing"}))
        self._world.note(f"object store: answers {how}")
        self.was_spoiled = True
        return SPOILS[how](content, self._random)

    def names(self, prefix: str) -> Sequence[str]:
        """In their order, but for those that it lists later."""
        before_s = self._world.loop.time() - self.lists_after_s
        found = sorted(name for name in self.objects if name.startswith(prefix))
        listed = [name for name in found if self._created_s.get(name, 0.0) <= before_s]
        if len(listed) < len(found):
            self._world.note("object store: lists late")
        return listed

    def listed(self, prefix: str) -> Sequence[Lying]:
        """As `names`, with what a listing shows."""

        def written_ms(name: str) -> int:
            return EPOCH_MS + int(1000 * self._created_s.get(name, 0.0))

        return [Lying(name, len(self.objects[name]), written_ms(name)) for name in self.names(prefix)]

    async def ask[T](self, who: str, step: Callable[[], T]) -> T:
        """The answer to a question. Raises BackupUnreachable."""
        loop, context = asyncio.get_running_loop(), self._world.network.context
        answer: asyncio.Future[T] = loop.create_future()

        def later(tell: Callable[[], None]) -> None:
            loop.call_later(self._takes_s(), lambda: None if answer.done() else tell(), context=context)

        def fail(problem: str) -> None:
            def tell() -> None:
                answer.set_exception(BackupUnreachable("the simulated bucket", problem))
                answer.exception()  # who asked may have been killed meanwhile: then nobody takes it

            later(tell)

        def do() -> None:
            if self.is_down or who in self.refuses:
                return fail("it is down" if self.is_down else "403: it does not know who asks")
            if self._happens(self.throttles):
                self._world.note("object store: throttles")
                return fail("503: slow down")
            result = step()
            if self._happens(self.does_twice):
                self._world.note("object store: does it twice")
                result = step()
            if self._happens(self.loses_answers):
                self._world.note("object store: done, and not answered")
                return None
            return later(lambda: answer.set_result(result))

        loop.call_later(self._takes_s(), do, context=context)
        try:
            async with asyncio.timeout(GIVEN_UP_AFTER_S + 2 * self.slow_s):
                return await answer
        except TimeoutError:
            raise BackupUnreachable("the simulated bucket", "no answer in time") from None

    def _happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    def _takes_s(self) -> float:
        return LATENCY_S * self._random.random() + self.slow_s * self._random.random()


class SimulatedBucket:
    """A machine's way to the store. See `backup.bucket.Bucket`."""

    def __init__(self, store: ObjectStore, who: str) -> None:
        self._store = store
        self._who = who

    async def create(self, name: str, content: bytes) -> bool:
        """See `Bucket`, as for all that follow."""
        return await self._store.ask(self._who, lambda: self._store.create(name, content))

    async def get(self, name: str, *, max_bytes: int) -> bytes | None:
        content = await self._store.ask(self._who, lambda: self._store.get(name))
        if content is not None and len(content) > max_bytes:
            raise BackupDamaged(self.place(name), f"is larger than {max_bytes} bytes")
        return content

    async def names(self, prefix: str) -> Sequence[str]:
        return await self._store.ask(self._who, lambda: self._store.names(prefix))

    async def listed(self, prefix: str) -> Sequence[Lying]:
        return await self._store.ask(self._who, lambda: self._store.listed(prefix))

    async def delete(self, names: Sequence[str]) -> None:
        await self._store.ask(self._who, lambda: self._store.delete(names))

    async def put(self, name: str, content: bytes) -> None:
        await self._store.ask(self._who, lambda: self._store.put(name, content))

    def place(self, name: str = "") -> str:
        return f"the simulated bucket, {name}" if name else "the simulated bucket"
