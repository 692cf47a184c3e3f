"""One restore at a time in a folder: two that make one file would write over each other, and take that for damage."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone_in_its_folder(target: Path) -> Iterator[None]:
    """While no other process is in here for a file of the same folder. The kernel lets it go when the process ends.

    Raises DatabasePathError if another one is. A file system that knows no locks is taken for one where nobody is."""
    from replication.errors import DatabasePathError

    descriptor = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                problem = f"another restore is making a file in {target.parent}"
                raise DatabasePathError(target, problem, "wait for it, or name a file in another folder") from None
        yield
    finally:
        os.close(descriptor)
