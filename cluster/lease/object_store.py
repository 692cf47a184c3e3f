"""A lease in an object store: one small object for each grant, created only if it is not there.

Creating is the one thing that is decided by the store: of two nodes that create `lease-000000000007.json`, one does. It
is all that a store has to be able to do, and all of them are: S3 and its like, and a folder on a local disk. The holder
writes its own object again to renew it, without any condition, and nobody else ever writes it. So there are two rules
that make up for the condition:

- A renewal counts only if the store has confirmed it *before* the grant as it was ran out. One that was under way for
  longer may have come after another's last look.
- Another node creates the next object only after it has seen the newest one unchanged for its whole time, the last time
  in an answer to a question that it asked after that time.

A renewal that counts was therefore in the store before any node could ask that last question, and was seen in the
answer. After a renewal its holder also looks whether a newer object is there: that finds out what its clock hid, where
it stood still with its node. An epoch stands in the object, and is above that of the object before; old objects are
deleted once there are newer ones, and the newest one never is, so it also survives being released."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from cluster.errors import LeaseHeld, LeaseLost, LeaseUnreachable
from cluster.lease.deciding import good_until_s, has_run_out, renew_at_s
from cluster.lease.interface import Grant, Holding
from cluster.lease.record import Record, decode

KEPT: Final = 2
"""So many of the newest objects are kept."""
_TRIES: Final = 8
"""So often is looked again where objects come and go in between."""


class Objects(Protocol):
    """What is needed of a store: numbered objects in one place. Raises LeaseUnreachable."""

    async def newest(self) -> int:
        """The largest number that there is; 0 if there is none."""
        ...

    async def get(self, number: int) -> bytes | None:
        """What stands in an object; None if it is not there."""
        ...

    async def put(self, number: int, content: bytes) -> None:
        """Writes it, over what is there."""
        ...

    async def create(self, number: int, content: bytes) -> bool:
        """Writes it if it is not there: whether it was not."""
        ...

    async def delete_before(self, number: int) -> None:
        """Deletes those with smaller numbers."""
        ...

    def place(self, number: int) -> str:
        """Where the object is, for people; without any secret."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    number: int
    record: Record
    first_s: float
    """Of the own clock, after it was first read."""


class ObjectStoreLease:
    """See the module. `nonce` gives another text each time. Each question to the store has a third of the lease's time
    to be answered."""

    def __init__(
        self,
        objects: Objects,
        *,
        cluster: str,
        node: str,
        ttl_s: float,
        clock: Callable[[], float],
        nonce: Callable[[], str],
    ) -> None:
        self._objects = objects
        self._cluster = cluster
        self._node = node
        self._ttl_s = ttl_s
        self._clock = clock
        self._nonce = nonce
        self._seen: _Seen | None = None
        self._held: Record | None = None

    async def read(self) -> Holding | None:
        """See `Lease.read`."""
        seen = await self._look()
        if seen is None:
            return None
        record = seen.record
        return Holding(node=record.node, epoch=record.epoch, is_released=record.is_released, successor=record.successor)

    async def acquire(self, *, above: int) -> Grant:
        """See `Lease.acquire`."""
        looked_at_s = self._clock()
        seen = await self._look()
        if seen is not None and not self._may_follow(seen, looked_at_s):
            raise LeaseHeld(seen.record.node, seen.record.epoch)
        number = 1 if seen is None else seen.number + 1
        record = Record(
            cluster=self._cluster,
            node=self._node,
            epoch=max(above, 0 if seen is None else seen.record.epoch) + 1,
            ttl_s=self._ttl_s,
            nonce=self._nonce(),
        )
        asked_at_s = self._clock()
        created = await self._in_time(self._objects.create(number, record.encoded()))
        # Created, but in the place of one that is long deleted, by who looked long ago?
        if not created or not await self._is_newest(number):
            self._seen = None  # the next look is for the newest that there is
            raise LeaseHeld("another node, which was faster", record.epoch)
        self._held = record
        with contextlib.suppress(LeaseUnreachable):  # old ones that stay are no reason to refuse what was granted
            await self._in_time(self._objects.delete_before(number - KEPT + 1))
        return self._granted(number, record, asked_at_s)

    async def renew(self, grant: Grant) -> Grant:
        """See `Lease.renew`."""
        asked_at_s = self._clock()
        if self._held is None or self._is_over(grant):
            raise LeaseLost(grant.epoch, "it ran out before it was renewed")
        record = replace(self._held, nonce=self._nonce())
        await self._in_time(self._objects.put(grant.number, record.encoded()))
        if self._is_over(grant):
            raise LeaseLost(grant.epoch, "the store took so long to renew it that it may have run out")
        if not await self._is_newest(grant.number):  # its clock stood still while time went on: others' did not
            raise LeaseLost(grant.epoch, "another node was granted the next one")
        return self._granted(grant.number, record, asked_at_s)

    async def release(self, grant: Grant, *, successor: str | None = None) -> None:
        """See `Lease.release`."""
        if self._held is None:
            return
        record = replace(self._held, nonce=self._nonce(), is_released=True, successor=successor)
        self._held = None
        await self._in_time(self._objects.put(grant.number, record.encoded()))

    def _is_over(self, grant: Grant) -> bool:
        return self._clock() >= grant.good_until_s

    async def _is_newest(self, number: int) -> bool:
        return await self._in_time(self._objects.newest()) == number

    def _granted(self, number: int, record: Record, asked_at_s: float) -> Grant:
        return Grant(
            epoch=record.epoch,
            good_until_s=good_until_s(asked_at_s=asked_at_s, ttl_s=record.ttl_s),
            renew_at_s=renew_at_s(asked_at_s=asked_at_s, ttl_s=record.ttl_s),
            number=number,
        )

    def _may_follow(self, seen: _Seen, looked_at_s: float) -> bool:
        record = seen.record
        if record.is_released and record.successor in (None, self._node):
            return True
        return has_run_out(first_seen_s=seen.first_s, asked_at_s=looked_at_s, ttl_s=record.ttl_s)

    async def _look(self) -> _Seen | None:
        """The newest object. One that is known is not listed again: listing costs more than reading."""
        number = 0 if self._seen is None else self._seen.number
        content: bytes | None = None
        for _ in range(_TRIES):
            following = await self._in_time(self._objects.get(number + 1)) if number else None
            if following is not None:
                number, content = number + 1, following
                continue
            content = await self._in_time(self._objects.get(number)) if number else None
            if content is not None:
                return self._note(number, content)
            number = await self._in_time(self._objects.newest())
            if not number:
                return None
        raise LeaseUnreachable("its objects come and go too fast to be read")

    def _note(self, number: int, content: bytes) -> _Seen:
        record = decode(content, place=self._objects.place(number), cluster=self._cluster)
        if self._seen is None or (self._seen.number, self._seen.record) != (number, record):
            self._seen = _Seen(number=number, record=record, first_s=self._clock())
        return self._seen

    async def _in_time[T](self, question: Awaitable[T]) -> T:
        timeout_s = self._ttl_s / 3
        try:
            async with asyncio.timeout(timeout_s):
                return await question
        except TimeoutError:
            raise LeaseUnreachable(f"no answer within {timeout_s:.1f} s") from None
