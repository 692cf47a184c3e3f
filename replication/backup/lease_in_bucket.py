"""The objects of the keeper's lease, in the bucket that is kept: `keeper/000000000001` and so on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cluster.errors import LeaseUnreachable
from cluster.lease.record import RECORD_MAX_BYTES
from replication.backup.bucket import Bucket
from replication.backup.errors import BackupDamaged, BackupUnreachable
from replication.backup.names import KEEPER, keepers_in, of_keeper

LEASE_TTL_S: Final = 60.0
"""A third of it is the longest that the store may take for one answer. After so much the next node may keep."""


class LeaseInBucket:
    """See `cluster.lease.object_store.Objects`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def newest(self) -> int:
        """See `Objects.newest`."""
        return max(await self._numbers(), default=0)

    async def get(self, number: int) -> bytes | None:
        """See `Objects.get`. Of one that is too large to be a lease's, as much as shows that."""
        with _told():
            try:
                return await self._bucket.get(of_keeper(number), max_bytes=RECORD_MAX_BYTES)
            except BackupDamaged:
                return bytes(RECORD_MAX_BYTES + 1)

    async def put(self, number: int, content: bytes) -> None:
        """See `Objects.put`."""
        with _told():
            await self._bucket.put(of_keeper(number), content)

    async def create(self, number: int, content: bytes) -> bool:
        """See `Objects.create`."""
        with _told():
            return await self._bucket.create(of_keeper(number), content)

    async def delete_before(self, number: int) -> None:
        """See `Objects.delete_before`."""
        old = [of_keeper(one) for one in await self._numbers() if one < number]
        with _told():
            await self._bucket.delete(old)

    def place(self, number: int) -> str:
        """See `Objects.place`."""
        return self._bucket.place(of_keeper(number))

    async def _numbers(self) -> list[int]:
        with _told():
            return keepers_in(await self._bucket.names(KEEPER))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BackupUnreachable as error:
        raise LeaseUnreachable(error.problem) from error
