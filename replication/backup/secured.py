"""A bucket as its marker says that it is: plain, or encrypted with a key that a secret opens.

Who reads or writes objects through it knows nothing of that. Names are not encrypted."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cluster.security import Secret
from replication.backup import marker
from replication.backup.bucket import Bucket, Lying, missing
from replication.backup.encrypting import OVERHEAD_BYTES, CannotDecrypt, Key, key_of, new_key
from replication.backup.errors import BackupDamaged, BackupRefused, BackupUnreachable
from replication.backup.marker import BadMarker, Marker
from replication.backup.names import MARKER, of_key

_KEY_MAX_BYTES: Final = 4_096


class SecuredBucket:
    """See `bucket.Bucket`, and the module. All of its methods but `place` raise BackupRefused if the place is not as
    the settings say, or no secret opens it."""

    def __init__(self, bucket: Bucket, *, secrets: Sequence[Secret], encrypt: bool | None) -> None:
        """`secrets`: the cluster's, then those that it had before. `encrypt`: what the settings say; None for who only
        reads, and takes the place as it is."""
        self._bucket = bucket
        self._secrets = secrets
        self._encrypt = encrypt
        self._marker: Marker | None = None
        """What the place is, once that is known."""
        self._key: Key | None = None
        """Of this place, if it is encrypted."""

    async def create(self, name: str, content: bytes) -> bool:
        """See `Bucket.create`."""
        if name == MARKER:
            return await self._bucket.create(name, await self._with_key(content) if self._encrypt else content)
        return await self._bucket.create(name, await self._sealed(name, content))

    async def get(self, name: str, *, max_bytes: int) -> bytes | None:
        """See `Bucket.get`."""
        if name == MARKER:
            return await self._get_marker()
        await self._opened()
        if self._key is None:
            return await self._bucket.get(name, max_bytes=max_bytes)
        sealed = await self._bucket.get(name, max_bytes=max_bytes + OVERHEAD_BYTES)
        if sealed is None:
            return None
        try:
            return await asyncio.to_thread(self._key.decrypt, name, sealed)
        except CannotDecrypt as error:
            raise BackupDamaged(self.place(name), str(error)) from None

    async def names(self, prefix: str) -> Sequence[str]:
        """See `Bucket.names`."""
        return await self._bucket.names(prefix)

    async def listed(self, prefix: str) -> Sequence[Lying]:
        """See `Bucket.listed`. The sizes are those of what lies there."""
        return await self._bucket.listed(prefix)

    async def delete(self, names: Sequence[str]) -> None:
        """See `Bucket.delete`. Who could not read it removes nothing."""
        await self._opened()
        await self._bucket.delete(names)

    async def put(self, name: str, content: bytes) -> None:
        """See `Bucket.put`."""
        await self._bucket.put(name, await self._sealed(name, content))

    def place(self, name: str = "") -> str:
        """See `Bucket.place`."""
        return self._bucket.place(name)

    # --- what the place is ---

    async def _opened(self) -> Marker | None:
        """What the place is; None if it is nobody's yet."""
        if self._marker is None:
            await self._get_marker()
        return self._marker

    async def _sealed(self, name: str, content: bytes) -> bytes:
        """As it is written there."""
        if await self._opened() is None:
            raise missing(self, MARKER)
        return content if self._key is None else await asyncio.to_thread(self._key.encrypt, name, content)

    async def _get_marker(self) -> bytes | None:
        content = await self._bucket.get(MARKER, max_bytes=marker.MARKER_MAX_BYTES)
        if content is None:
            return None
        try:
            found = marker.decode(content)
        except BadMarker:
            return content  # who asked for it says what is wrong with it
        if found.key is not None:
            if self._encrypt is False:
                remedy = "set it to true, or name another place in [backup] url"
                raise BackupRefused(self.place(), "is encrypted, and [backup] encrypt is false", remedy)
            self._key = await self._data_key(found)
        elif self._encrypt:
            remedy = "name another place in [backup] url, or set it to false"
            raise BackupRefused(self.place(), "is not encrypted, and [backup] encrypt is true", remedy)
        self._marker = found
        return content

    # --- keys ---

    async def _with_key(self, content: bytes) -> bytes:
        """The marker of an encrypted place. Its key is there first: a marker without it would open for nobody."""
        plain = marker.decode(content)
        wrapping = key_of(self._secrets[0], plain.cluster)
        key = await self._unwrapped(wrapping)
        if key is None:
            key = new_key()
            if not await self._wrap(wrapping, key):
                key = await self._unwrapped(wrapping)  # another node was faster
        if key is None:
            raise BackupUnreachable(self.place(of_key(wrapping.fingerprint)), "it is said to be there, and is not")
        return marker.encode(replace(plain, key=key.fingerprint))

    async def _data_key(self, found: Marker) -> Key:
        """The key that the marker names. Who writes and has an old secret that opens it copies it for the new one."""
        for secret in self._secrets:
            key = await self._unwrapped(key_of(secret, found.cluster))
            if key is not None and key.fingerprint == found.key:
                if self._encrypt and secret is not self._secrets[0]:
                    await self._wrap(key_of(self._secrets[0], found.cluster), key)
                return key
        where = "[bus] secret_file, or LITECAST_BUS__SECRET"
        if not self._secrets:
            raise BackupRefused(self.place(), "is encrypted", f"give the cluster's secret: {where}")
        raise BackupRefused(
            self.place(),
            f"is encrypted, and no secret that is given here opens the backup of cluster {found.cluster!r}",
            f"give that cluster's: {where}; if it is new there, the one before as well: [backup] old_secret_file",
        )

    async def _unwrapped(self, wrapping: Key) -> Key | None:
        """The copy of the data key that this one opens; None if there is none. Raises BackupDamaged."""
        name = of_key(wrapping.fingerprint)
        sealed = await self._bucket.get(name, max_bytes=_KEY_MAX_BYTES)
        if sealed is None:
            return None
        try:
            return wrapping.unwrap(name, sealed)
        except CannotDecrypt as error:
            raise BackupDamaged(self.place(name), str(error)) from None

    async def _wrap(self, wrapping: Key, key: Key) -> bool:
        name = of_key(wrapping.fingerprint)
        return await self._bucket.create(name, wrapping.wrap(name, key))
