"""The nonce of this node's last run, in its data directory, where no copy of the database takes it along."""

import os
from pathlib import Path
from typing import Final, Protocol

NONCE_FILE: Final = "run.nonce"
"""It must not begin with a database's name: whoever copies `litecast.db*` would copy it."""
NONCE_BYTES: Final = 16


class Sidecar(Protocol):
    """Where the nonce of a run stands outside the database."""

    def read(self) -> bytes | None:
        """The nonce of the last run; None if there was none."""
        ...

    def write(self, nonce: bytes) -> None:
        """Keeps the nonce, durably."""
        ...


class NonceFile:
    """A file of its own in `data_dir`, which exists."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / NONCE_FILE

    def read(self) -> bytes | None:
        """Raises OSError if the file is there and cannot be read."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, nonce: bytes) -> None:
        """Raises OSError; the former nonce stands then."""
        beside = self._path.with_name(f"{NONCE_FILE}.new")
        with beside.open("wb") as file:
            file.write(nonce)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
