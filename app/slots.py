"""Nodes that share a folder each claim a part of it: the replicas of a compose service have one volume between them.

The folder of `node.slots_dir` holds `node-1`, `node-2` and so on. A starting node takes the first that no other has, as
its data directory and as its name, so that a replica that comes back finds its data and is who it was.

The claim is a BSD lock on a file in the part (`flock`). The kernel drops it when its holder ends, however it ends, and
containers that share a volume of one machine share the kernel: nothing is ever stale, and nobody has to tidy up. A part
is never deleted here, because its database is worth more than its room.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from app.config import Config
from app.errors import AppError

LOCK_FILE = "slot.lock"
# Far above any cluster that fits into one machine: it bounds the search where every lock fails.
SLOTS_MAX = 1024


class SlotError(AppError):
    """No part of the shared folder could be claimed; the text names the folder and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One part of a shared folder, this process's own until `release` or the process's end.

    `number` counts from 1; `name` is that of the folder `path` and of the node that lives in it.
    """

    number: int
    name: str
    path: Path
    descriptor: int

    def release(self) -> None:
        """Gives the part up, to whoever asks next. To be called once, after everything in it is closed."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def claim_slot(root: Path) -> Slot:
    """The part of `root` with the lowest number that nobody has, made if it is not there. Does not wait.

    Raises SlotError if `root` cannot be used, or all `SLOTS_MAX` parts are taken.
    """
    for number in range(1, SLOTS_MAX + 1):
        name = f"node-{number}"
        path = root / name
        try:
            descriptor = _lock(path)
        except OSError as error:
            raise SlotError(
                f"[node] slots_dir {root}: {error.filename or path} cannot be claimed ({error.strerror}); "
                "name a folder that this user can write to, on a file system that has locks"
            ) from error
        if descriptor is not None:
            return Slot(number=number, name=name, path=path, descriptor=descriptor)
    raise SlotError(f"[node] slots_dir {root}: all {SLOTS_MAX} parts are taken; name another folder")


def _lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another has it. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def claimed(config: Config) -> Iterator[Config]:
    """The settings with a claimed slot's folder and name in them, its own until the block ends.

    Without `node.slots_dir` they come back as they are. Raises SlotError as `claim_slot` does.
    """
    if config.node.slots_dir is None:
        yield config
        return
    with claim_slot(config.node.slots_dir) as slot:
        yield replace(
            config,
            node=replace(config.node, name=slot.name, data_dir=slot.path),
            database=replace(config.database, path=slot.path / config.database.path.name),
        )
