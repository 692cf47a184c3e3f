"""The nonce of this node's last run, in its data directory, where no copy of the database takes it along."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

NONCE_FILE: Final = "run.nonce"
"""It must not begin with a database's name: whoever copies `litecast.db*` would copy it."""
NONCE_BYTES: Final = 16


class Sidecar(Protocol):
    """Where the nonce of a run stands outside the database."""

    def read(self) -> Sequence[bytes]:
        """The nonce of the last run, or, if that had just begun, of the last two; none if there was no run."""
        ...

    def write(self, *nonces: bytes) -> None:
        """Keeps these, and no others, durably."""
        ...


def nonces_in(content: bytes) -> Sequence[bytes]:
    """What was written one after the other."""
    return [content[at : at + NONCE_BYTES] for at in range(0, len(content), NONCE_BYTES)]


class NonceFile:
    """A file of its own in `data_dir`, which exists."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NONCE_FILE

    def read(self) -> Sequence[bytes]:
        """Raises OSError if the file is there and cannot be read."""
        try:
            return nonces_in(self._path.read_bytes())
        except FileNotFoundError:
            return ()

    def write(self, *nonces: bytes) -> None:
        """Raises OSError; what stood there stands then."""
        beside = self._path.with_name(f"{NONCE_FILE}.new")
        with beside.open("wb") as file:
            file.write(b"".join(nonces))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
