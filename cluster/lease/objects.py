"""The objects of a lease in a bucket or a folder: what `object_stores` finds at its URL."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from cluster.errors import LeaseUnreachable, LeaseUrlError
from cluster.lease.record import RECORD_MAX_BYTES
from cluster.object_stores import NoStore, create, first_line, open_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_NAME: Final = re.compile(r"lease-(\d{12})\.json")


class StoredObjects:
    """See `object_store.Objects`. Nothing is asked before the first method is called."""

    def __init__(self, url: str, *, environ: Mapping[str, str] = os.environ) -> None:
        """Raises LeaseUrlError for a URL that is none, or with what obstore does not know."""
        self._url = url.rstrip("/")
        self._store = _store(self._url, environ)

    async def newest(self) -> int:
        """See `Objects.newest`."""
        return max(await self._numbers(), default=0)

    async def get(self, number: int) -> bytes | None:
        """See `Objects.get`. Of one that is too large to be a lease's, as much as shows that."""
        import obstore

        with _told():
            try:
                found = await obstore.get_async(self._store, _name(number))
            except FileNotFoundError:
                return None
            if found.meta["size"] > RECORD_MAX_BYTES:
                return bytes(RECORD_MAX_BYTES + 1)
            return bytes(await found.bytes_async())

    async def put(self, number: int, content: bytes) -> None:
        """See `Objects.put`."""
        import obstore

        with _told():
            await obstore.put_async(self._store, _name(number), content, mode="overwrite", use_multipart=False)

    async def create(self, number: int, content: bytes) -> bool:
        """See `Objects.create`."""
        with _told():
            return await create(self._store, _name(number), content)

    async def delete_before(self, number: int) -> None:
        """See `Objects.delete_before`."""
        import obstore

        old = [_name(one) for one in await self._numbers() if one < number]
        if old:
            with _told():
                await obstore.delete_async(self._store, old)

    def place(self, number: int) -> str:
        """See `Objects.place`."""
        return f"{self._url}/{_name(number)}"

    async def _numbers(self) -> list[int]:
        import obstore

        with _told():
            found = await obstore.list(self._store).collect_async()
        return [int(match[1]) for one in found if (match := _NAME.fullmatch(one["path"])) is not None]


def _name(number: int) -> str:
    return f"lease-{number:012d}.json"


def _store(url: str, environ: Mapping[str, str]) -> "ObjectStore":
    try:
        return open_store(url, environ, whose="lease")
    except NoStore as error:
        raise LeaseUrlError(str(error)) from None


@contextmanager
def _told() -> Iterator[None]:
    """What a store has to say becomes LeaseUnreachable: all of it can be tried again."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        raise LeaseUnreachable(first_line(error)) from error
