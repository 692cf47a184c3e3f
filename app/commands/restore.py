"""`litecast restore`: a database from a backup."""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands import Subparsers

if TYPE_CHECKING:
    from replication.backup.restoring import Restored

TOLD_S = 0.5


def register(subparsers: Subparsers) -> None:
    """Adds `restore`."""
    parser = subparsers.add_parser(
        "restore",
        help="make a database from a backup",
        description="Makes a database file from a backup: the newest snapshot, and what was uploaded after it. The "
        "file is written beside its place, checked, and put there when it is whole; one that is there already is never "
        "replaced. A node with the file as its database goes on from there, under a new site. See docs/backup.md.",
    )
    parser.add_argument("--from", dest="url", required=True, metavar="URL", help="what [backup] url says")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings with the secret that opens an encrypted backup"
    )
    parser.add_argument("database", type=Path, metavar="OUT.db", help="the file to be made")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Returns once the file is there. Raises ConfigError, BackupError, DatabaseError."""
    restored = asyncio.run(_restored(args.url, args.config, args.database, quiet=args.json or not sys.stderr.isatty()))
    if args.json:
        print(json.dumps(_as_json(args.database, restored), indent=2))
        return 0
    print(f"{args.database} holds snapshot {restored.snapshot.number} and {restored.changesets:,} changesets after it.")
    if restored.reached_ms is not None:
        print(f"The newest change in it was made at {_moment(restored.reached_ms)}.")
    for left in restored.left_out:
        print(f"Left out: what site {left.site} wrote after {_moment(left.after >> 16)}, since {left.reason}.")
    return 0


async def _restored(url: str, settings: Path | None, target: Path, *, quiet: bool) -> "Restored":
    from app.backing_up import bucket_of
    from app.config import load_config
    from replication.backup.for_node import restore_from
    from replication.backup.restoring import Progress
    from replication.errors import DatabasePathError
    from replication.translation import SQLITE_ERRORS, translated

    progress = Progress()
    if not target.parent.is_dir():
        raise DatabasePathError(target, f"the folder {target.parent} does not exist", "create it, or name another file")
    bucket = bucket_of(load_config(settings, os.environ), url, as_it_is=True)
    restoring = asyncio.ensure_future(restore_from(bucket, target, progress=progress))
    while not (await asyncio.wait({restoring}, timeout=TOLD_S))[0]:
        if not quiet:
            print(f"\r\x1b[K{progress}", end="", file=sys.stderr, flush=True)
    if not quiet:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    try:
        return restoring.result()
    except SQLITE_ERRORS as error:
        raise translated(error, path=target, busy_timeout_s=0) from error
    except OSError as error:
        raise DatabasePathError(
            target, f"cannot be written ({error.strerror or error})", "see that the disk has room, or name another file"
        ) from error


def _as_json(database: Path, restored: "Restored") -> dict[str, object]:
    return {
        "database": str(database),
        "bytes": restored.size,
        "cluster": restored.snapshot.cluster,
        "snapshot": restored.snapshot.number,
        "changesets": restored.changesets,
        "reached_ms": restored.reached_ms,
        "sites": {site: head.stamp for site, head in sorted(restored.vector.items())},
        "left_out": [{"site": one.site, "after": one.after, "reason": one.reason} for one in restored.left_out],
    }


def _moment(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
