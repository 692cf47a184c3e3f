"""A bucket that is an object store's: see `cluster.object_stores` for which there are."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from cluster.object_stores import NoStore, create, first_line, open_store
from replication.backup.bucket import Lying
from replication.backup.errors import BackupDamaged, BackupUnreachable, BackupUrlError

REQUEST_TIMEOUT_S: Final = 60.0
"""For one request with all that obstore tries. A piece of a snapshot is 8 MiB: half a minute on a slow line."""
_DELETED_AT_ONCE: Final = 250
_HTTP: Final[Mapping[str, Any]] = {
    "client_options": {"connect_timeout": "5s", "timeout": "45s"},
    "retry_config": {"max_retries": 2},
}


class StoredBucket:
    """See `bucket.Bucket`. Nothing is asked before the first method is called."""

    def __init__(self, url: str, *, environ: Mapping[str, str] = os.environ) -> None:
        """Raises BackupUrlError for a url that is none, or with what obstore does not know."""
        self._url = url.rstrip("/")
        http = {} if url.startswith(("file:", "memory:")) else _HTTP
        try:
            self._store = open_store(self._url, environ, whose="backup", **http)
        except NoStore as error:
            raise BackupUrlError(str(error)) from None

    async def create(self, name: str, content: bytes) -> bool:
        """See `Bucket.create`."""
        async with self._told(name):
            return await create(self._store, name, content)

    async def get(self, name: str, *, max_bytes: int) -> bytes | None:
        """See `Bucket.get`."""
        import obstore

        async with self._told(name):
            try:
                found = await obstore.get_async(self._store, name)
            except FileNotFoundError:
                return None
            if found.meta["size"] > max_bytes:
                raise BackupDamaged(self.place(name), f"is larger than {max_bytes} bytes, as none of a backup is")
            return bytes(await found.bytes_async())

    async def names(self, prefix: str) -> Sequence[str]:
        """See `Bucket.names`."""
        return [one.name for one in await self.listed(prefix)]

    async def listed(self, prefix: str) -> Sequence[Lying]:
        """See `Bucket.listed`."""
        import obstore

        async with self._told(prefix):
            found: list[Lying] = []
            async for chunk in obstore.list(self._store, prefix=prefix or None):
                found += [
                    Lying(one["path"], one["size"], int(one["last_modified"].timestamp() * 1000)) for one in chunk
                ]
            return sorted(found)

    async def delete(self, names: Sequence[str]) -> None:
        """See `Bucket.delete`."""
        import obstore

        for some in itertools.batched(names, _DELETED_AT_ONCE, strict=False):
            async with self._told(some[0]):
                try:
                    await obstore.delete_async(self._store, list(some))
                except FileNotFoundError:  # some stores say so, and leave those after it
                    for name in some:
                        with contextlib.suppress(FileNotFoundError):
                            await obstore.delete_async(self._store, name)

    async def put(self, name: str, content: bytes) -> None:
        """See `Bucket.put`."""
        import obstore

        async with self._told(name):
            await obstore.put_async(self._store, name, content, mode="overwrite", use_multipart=False)

    def place(self, name: str = "") -> str:
        """See `Bucket.place`."""
        shown = self._url.partition("?")[0]  # what comes after that may be what admits to the store
        return f"{shown}/{name}" if name else shown

    @asynccontextmanager
    async def _told(self, name: str) -> AsyncIterator[None]:
        """What a store has to say becomes BackupUnreachable: all of it can be tried again."""
        from obstore.exceptions import BaseError

        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                yield
        except TimeoutError:
            raise BackupUnreachable(self.place(name), f"no answer within {REQUEST_TIMEOUT_S:.0f} s") from None
        except (BaseError, OSError) as error:
            raise BackupUnreachable(self.place(name), first_line(error)) from error
