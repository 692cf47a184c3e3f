"""A node's own address in a bucket or folder: claimed at each start, and looked at while Litestream runs."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.errors import AddressTaken, AddressUnusable
from app.litestream.claims import (
    CLAIM_MAX_BYTES,
    BadClaim,
    Claim,
    decode,
    encode,
    name_of,
    number_of,
    tokens_in,
    why_not,
)
from cluster.object_stores import NoStore, first_line, open_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

TOKENS_FILE: Final = "litestream.claim"
SCHEMES: Final = ("s3", "gs", "file")
"""What both Litestream and obstore call by the same names."""


class Address:
    """`<base>/<node>`, where this node's replica is, and nobody else's."""

    def __init__(self, base: str, *, cluster: str, node: str, data_dir: Path, environ: Mapping[str, str]) -> None:
        """Asks nobody yet. Raises AddressUnusable for a `base` that is no URL of a place."""
        if base.partition("://")[0] not in SCHEMES or "?" in base:
            raise AddressUnusable(
                f"LITESTREAM_URL is {base!r}: it has to be s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER; "
                "whatever else there is to say goes into litestream.yml"
            )
        self.url = f"{base.rstrip('/')}/{node}"
        self._cluster, self._node, self._file = cluster, node, data_dir / TOKENS_FILE
        try:
            self._store: ObjectStore = open_store(self.url, environ, whose="Litestream address")
        except NoStore as error:
            raise AddressUnusable(str(error)) from None

    def claim(self) -> int:
        """Makes the address this node's; the number of the claim. Raises AddressTaken, AddressUnusable.

        Stopped at any moment, it can be done again: what is remembered covers both the claim that counted and the one
        that was about to be made.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        remembered, token = self._remembered(), secrets.token_hex(16)
        number, found = self._newest()
        self._check(found, remembered)
        self._remember(token, *(() if found is None else (found.token,)))
        made = encode(Claim(cluster=self._cluster, node=self._node, token=token))
        with self._told():
            try:
                obstore.put(self._store, name_of(number + 1), made, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                # Somebody else at the same moment, or this very claim, of which the answer was lost.
                number_now, found = self._newest()
                if found is None or found.token != token:
                    self._check(found, (token,))
                    raise AddressUnusable(f"{self.url}: its claims change while they are read; start again") from None
                number = number_now - 1
        self._remember(token)
        self._delete_before(number + 1)
        return number + 1

    def is_still(self, number: int) -> bool:
        """Whether the claim of this number still counts: nobody came after it. Raises AddressUnusable."""
        return max(self._numbers(), default=0) <= number

    def taken(self, found: str) -> AddressTaken:
        """The error for somebody else's claim."""
        return AddressTaken(
            f"{self.url} {found}: two nodes cannot share an address; give this node another [node] name, or, if it is "
            f"this one that shall have the replica, stop the other and remove {self._file} and {self.url}/claim-*.json"
        )

    def _check(self, found: Claim | None, remembered: tuple[str, ...]) -> None:
        if (why := why_not(found, cluster=self._cluster, node=self._node, remembered=remembered)) is not None:
            raise self.taken(why)

    def _newest(self) -> tuple[int, Claim | None]:
        import obstore

        number = max(self._numbers(), default=0)
        if number == 0:
            return 0, None
        with self._told():
            answer = obstore.get(self._store, name_of(number))
            content = bytes(answer.bytes()) if answer.meta["size"] <= CLAIM_MAX_BYTES else b""
        try:
            return number, decode(content)
        except BadClaim as error:
            remedy = "give this node another LITESTREAM_URL, or remove it if you know what it is"
            raise AddressUnusable(f"{self.url}/{name_of(number)} {error}; {remedy}") from None

    def _numbers(self) -> list[int]:
        import obstore

        # Not the replica's own objects, of which there are many.
        with self._told():
            found = obstore.list_with_delimiter(self._store)["objects"]
        return [number for one in found if (number := number_of(one["path"])) is not None]

    def _delete_before(self, number: int) -> None:
        import obstore

        if old := [name_of(one) for one in self._numbers() if one < number]:
            with self._told():
                obstore.delete(self._store, old)

    def _remembered(self) -> tuple[str, ...]:
        try:
            return tokens_in(self._file.read_text())
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise AddressUnusable(f"{self._file} cannot be read ({error}); see that it is this user's") from error

    def _remember(self, *tokens: str) -> None:
        new = self._file.with_name(f"{TOKENS_FILE}.new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with new.open("w") as file:
                file.write("".join(f"{token}\n" for token in tokens))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
        except OSError as error:
            raise AddressUnusable(
                f"{self._file} cannot be written ({error.strerror}); see that the disk has room, and that this user "
                "may write there"
            ) from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            raise AddressUnusable(
                f"{self.url} cannot be reached or written ({first_line(error)}); see to LITESTREAM_URL and the "
                "credentials, and start again"
            ) from error
