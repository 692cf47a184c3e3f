"""What commands have in common that make a database: how far it is, for people, and nothing left after Ctrl-C."""

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path

TOLD_S = 0.5


async def made[T](work: Awaitable[T], target: Path, progress: object, *, quiet: bool) -> T:
    """What the work gives, whose progress is shown on a terminal meanwhile. It has ended when this has, whatever
    happens. `target`: the file that it makes. Raises what the work raises, as a DatabaseError where that is the disk's.
    """
    from replication.errors import DatabasePathError
    from replication.translation import SQLITE_ERRORS, translated

    quiet = quiet or not sys.stderr.isatty()
    doing = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({doing}, timeout=TOLD_S))[0]:
            if not quiet:
                print(f"\r\x1b[K{progress}", end="", file=sys.stderr, flush=True)
    finally:
        doing.cancel()
        await asyncio.wait({doing})
        if not quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    try:
        return doing.result()
    except SQLITE_ERRORS as error:
        raise translated(error, path=target, busy_timeout_s=0) from error
    except OSError as error:
        raise DatabasePathError(
            target, f"cannot be written ({error.strerror or error})", "see that the disk has room, or name another file"
        ) from error
