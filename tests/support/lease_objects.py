"""A store of a lease's objects in memory, whose answers may take their time, wait for a word, or fail."""

import asyncio
from collections import Counter
from collections.abc import Callable

from cluster.errors import LeaseUnreachable


class FakeObjects:
    """What is asked for is done after one delay, and answered after another."""

    def __init__(self, delay_s: Callable[[], float] = lambda: 0.0) -> None:
        self.objects: dict[int, bytes] = {}
        self.is_down = False
        self.asked = Counter[str]()
        """How often each kind of question was."""
        self._delay_s = delay_s
        self._held: dict[str, list[asyncio.Event]] = {}
        self._holding: set[str] = set()

    def hold(self, what: str) -> None:
        """Questions of this kind wait for `let`."""
        self._holding.add(what)

    def let(self, what: str, *, only_next: bool = False) -> None:
        """Those that wait go on; `only_next`: those that come do not wait, and those that wait go on waiting."""
        self._holding.discard(what)
        if not only_next:
            for event in self._held.pop(what, []):
                event.set()

    def waiting(self, what: str) -> int:
        """How many questions of this kind wait."""
        return len(self._held.get(what, []))

    async def newest(self) -> int:
        return await self._do("newest", lambda: max(self.objects, default=0))

    async def get(self, number: int) -> bytes | None:
        return await self._do("get", lambda: self.objects.get(number))

    async def put(self, number: int, content: bytes) -> None:
        await self._do("put", lambda: self.objects.update({number: content}))

    async def create(self, number: int, content: bytes) -> bool:
        return await self._do("create", lambda: self.objects.setdefault(number, content) is content)

    async def delete_before(self, number: int) -> None:
        def delete() -> None:
            for one in [one for one in self.objects if one < number]:
                del self.objects[one]

        await self._do("delete", delete)

    def place(self, number: int) -> str:
        return f"memory/{number}"

    async def _do[T](self, what: str, step: Callable[[], T]) -> T:
        """As over a network: a question that is not waited for any more is answered all the same."""
        self.asked[what] += 1
        if self.is_down:
            raise LeaseUnreachable("the store is down")
        return await asyncio.shield(asyncio.ensure_future(self._slowly(what, step)))

    async def _slowly[T](self, what: str, step: Callable[[], T]) -> T:
        if what in self._holding:
            event = asyncio.Event()
            self._held.setdefault(what, []).append(event)
            await event.wait()
        await asyncio.sleep(self._delay_s())
        result = step()
        await asyncio.sleep(self._delay_s())
        return result
