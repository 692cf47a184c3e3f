"""`litecast restore`: a database from a backup."""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands import Subparsers

if TYPE_CHECKING:
    from replication.backup.cuts import Cut
    from replication.backup.restoring import Restored


def register(subparsers: Subparsers) -> None:
    """Adds `restore`."""
    parser = subparsers.add_parser(
        "restore",
        help="make a database from a backup",
        description="Makes a database file from a backup: the newest snapshot, and what was uploaded after it; or the "
        "state of an earlier moment. The "
        "file is written beside its place, checked, and put there when it is whole; one that is there already is never "
        "replaced. A node with the file as its database goes on from there, under a new site. See docs/backup.md.",
    )
    parser.add_argument("--from", dest="url", metavar="URL", help="what [backup] url says, if not in FILE")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings with the url, or with the secret")
    cut = parser.add_mutually_exclusive_group()
    cut.add_argument(
        "--at",
        metavar="TIME",
        help="everything that was written up to this moment, and nothing later: 2026-11-27T14:30:00Z, or with another "
        "zone (+02:00); without a zone it is UTC. `litecast backup list` says which there are",
    )
    cut.add_argument(
        "--position",
        metavar="POSITION",
        help="everything before this position, and nothing later of the sites that it names: as a node shows it under "
        "/api/cluster, or in X-Litecast-Position",
    )
    parser.add_argument("database", type=Path, metavar="OUT.db", help="the file to be made")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Returns once the file is there. Raises BackupError, ConfigError, DatabaseError."""
    cut, has_zone = _cut(args)
    restored = asyncio.run(_restored(args, cut))
    if args.json:
        print(json.dumps(_as_json(args.database, restored, cut), indent=2))
    else:
        _print(args, restored, cut, has_zone=has_zone)
    return 0


def _cut(args: argparse.Namespace) -> "tuple[Cut, bool]":
    """Up to where, and whether that was said with a zone, if it is a moment. Raises ConfigError."""
    from app.errors import ConfigError
    from replication.backup import moments
    from replication.backup.cuts import EVERYTHING, AtMoment, AtPosition
    from replication.positions import Position, PositionError

    try:
        if args.at is not None:
            parsed = moments.parse(args.at)
            return AtMoment(parsed.ms), parsed.has_zone
        if args.position is not None:
            position = Position.parse(args.position)
            if not position:
                raise PositionError(args.position)
            return AtPosition(position), True
    except moments.NotAMoment as error:
        raise ConfigError(f"--at: {error}") from None
    except PositionError as error:
        raise ConfigError(f"--position: {error}") from None
    return EVERYTHING, True


def _print(args: argparse.Namespace, restored: "Restored", cut: "Cut", *, has_zone: bool) -> None:
    from replication.backup.cuts import EVERYTHING
    from replication.backup.moments import said

    upto = "" if cut == EVERYTHING else f" everything up to {cut}:"
    assumed = "" if has_zone else " (UTC, as no zone was given)"
    number = restored.snapshot.number
    print(f"{args.database} holds{upto} snapshot {number} and {restored.changesets:,} changesets after it{assumed}.")
    if restored.reached_ms is not None:
        print(f"The newest change in it was made at {said(restored.reached_ms)}.")
    if cut != EVERYTHING:
        for site, head in sorted(restored.vector.items()):
            print(f"Site {site}: the last change is of {_moment(head.stamp)}.")
    for left in restored.left_out:
        print(f"Left out: what site {left.site} wrote after {_moment(left.after)}, since {left.reason}.")


async def _restored(args: argparse.Namespace, cut: "Cut") -> "Restored":
    from app.backing_up import bucket_of, url_of
    from app.commands.alone import alone_in_its_folder
    from app.commands.making import made
    from app.config import load_config
    from replication.backup.for_node import restore_from
    from replication.backup.restoring import Progress
    from replication.errors import DatabasePathError

    target: Path = args.database
    if not target.parent.is_dir():
        raise DatabasePathError(target, f"the folder {target.parent} does not exist", "create it, or name another file")
    progress = Progress()
    config = load_config(args.config, os.environ)
    bucket = bucket_of(config, url_of(config, args.url), as_it_is=True)
    with alone_in_its_folder(target):
        return await made(restore_from(bucket, target, cut=cut, progress=progress), target, progress, quiet=args.json)


def _as_json(database: Path, restored: "Restored", cut: "Cut") -> dict[str, object]:
    from replication.backup.cuts import EVERYTHING, AtMoment

    return {
        "database": str(database),
        "bytes": restored.size,
        "cluster": restored.snapshot.cluster,
        "snapshot": restored.snapshot.number,
        "changesets": restored.changesets,
        "at_ms": cut.ms if isinstance(cut, AtMoment) and cut != EVERYTHING else None,
        "reached_ms": restored.reached_ms,
        "sites": {site: head.stamp for site, head in sorted(restored.vector.items())},
        "left_out": [{"site": one.site, "after": one.after, "reason": one.reason} for one in restored.left_out],
    }


def _moment(stamp: int) -> str:
    from replication.backup.moments import said

    return said(stamp >> 16) if stamp > 0 else "before it was attached"
