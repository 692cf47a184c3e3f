"""`litecast backup verify`: whether what is in the bucket comes back, and is what the database holds."""

import argparse
import asyncio
import json
import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands import Subparsers

if TYPE_CHECKING:
    from app.config import Config
    from replication.backup.bucket import Bucket
    from replication.backup.sampling import Sampled
    from replication.backup.verifying import Verified

SAMPLE = 20
WAIT_S = 60.0


def add(parts: Subparsers) -> None:
    """Adds `verify`."""
    parser = parts.add_parser(
        "verify",
        help="restore the backup into a temporary file, and compare it with the database",
        description="Waits until the bucket has what this node's database has now, restores exactly that into a "
        "temporary file, with all checks, and compares the rows. Run it beside the node; others may write meanwhile. "
        "With --from there is nothing to compare with, and all that is in the bucket is restored. Exit status 1 if "
        "something is wrong; it is named.",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the node's settings; with --from, those with the secret"
    )
    parser.add_argument("--from", dest="url", metavar="URL", help="what [backup] url says, where no node is")
    parser.add_argument(
        "--sample",
        type=int,
        nargs="?",
        const=SAMPLE,
        metavar="COUNT",
        help=f"only read so many objects ({SAMPLE}), taken at random: no database is made",
    )
    parser.add_argument(
        "--wait", type=float, default=WAIT_S, metavar="SECONDS", help="wait so long for the bucket (%(default)g)"
    )
    parser.add_argument(
        "--scratch", type=Path, metavar="FOLDER", help="where the temporary file is made; else where TMPDIR says"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints what was found: 0 if all is well, else 1. Raises ConfigError, BackupError, DatabaseError."""
    from app.backing_up import bucket_of
    from app.config import ConfigError, load_config

    config = load_config(args.config, os.environ)
    url = args.url or config.backup.url
    if url is None:
        raise ConfigError("no backup is named: --config FILE, with [backup] url, or --from URL")
    if args.sample is not None and args.sample < 1:
        raise ConfigError(f"--sample {args.sample}: read one object at least")
    if args.url is None and args.sample is None and config.node.slots_dir is not None:
        raise ConfigError("with [node] slots_dir, which database is this node's is not known: verify with --from URL")
    bucket = bucket_of(config, url, as_it_is=args.url is not None)
    if args.sample is not None:
        sampled = asyncio.run(_sampled(args, bucket))
        _print(args, _of_sampled(url, sampled), sampled.problems)
        return 1 if sampled.problems else 0
    verified = asyncio.run(_verified(args, bucket, config))
    _print(args, _of_verified(url, verified), verified.problems)
    return 1 if verified.problems else 0


async def _sampled(args: argparse.Namespace, bucket: "Bucket") -> "Sampled":
    from app.commands.making import made
    from replication.backup.restoring import Progress
    from replication.backup.sampling import sample

    progress = Progress()
    work = sample(bucket, args.sample, rng=random.Random(), progress=progress)
    return await made(work, Path(), progress, quiet=args.json)


async def _verified(args: argparse.Namespace, bucket: "Bucket", config: "Config") -> "Verified":
    from app.commands.making import made
    from app.config import ConfigError
    from replication.backup.live import NothingAttached
    from replication.backup.restoring import Progress
    from replication.backup.verifying import verify, verify_against
    from replication.convergent.engine import ThreadEngine
    from replication.errors import DatabasePathError

    path = config.database.path
    if args.url is None and not path.exists():
        raise DatabasePathError(path, "there is no such database", "start the node, or verify with --from URL")
    scratch = args.scratch or Path(tempfile.gettempdir())
    if not scratch.is_dir():
        raise DatabasePathError(scratch, "there is no such folder", "create it, or name another: --scratch")
    progress = Progress()
    engine = ThreadEngine("litecast verify")
    try:
        with tempfile.TemporaryDirectory(prefix="litecast-verify-", dir=scratch) as name:
            folder = Path(name)
            if args.url is not None:
                return await made(verify(bucket, folder, progress=progress), folder, progress, quiet=args.json)
            work = verify_against(
                bucket,
                path,
                folder,
                engine=engine,
                cluster=config.cluster.name,
                wait_s=args.wait,
                progress=progress,
            )
            return await made(work, folder, progress, quiet=args.json)
    except NothingAttached:
        raise ConfigError(f"{path} has no attached tables, so it has no backup: verify with --from URL") from None
    finally:
        await engine.close()


def _of_sampled(url: str, sampled: "Sampled") -> dict[str, Any]:
    well = "" if sampled.problems else ", and they are as they were written"
    said = f"{url}: read {sampled.checked:,} of {sampled.total:,} objects{well}."
    return {"url": url, "checked": sampled.checked, "objects": sampled.total, "said": said}


def _of_verified(url: str, verified: "Verified") -> dict[str, Any]:
    restored = verified.restored
    said = f"{url}: snapshot {restored.snapshot.number} and {restored.changesets:,} changesets after it come back"
    if verified.problems:
        said += "."
    elif verified.compared:
        said += f", and the rows of all {verified.compared} tables are those of the database."
    else:
        said += ", whole. There was no database to compare with."
    return {
        "url": url,
        "snapshot": restored.snapshot.number,
        "changesets": restored.changesets,
        "bytes": restored.size,
        "compared": verified.compared,
        "position": {site: head.stamp for site, head in sorted(restored.vector.items())},
        "left_out": [{"site": one.site, "after": one.after, "reason": one.reason} for one in restored.left_out],
        "said": said,
    }


def _print(args: argparse.Namespace, found: dict[str, Any], problems: tuple[str, ...]) -> None:
    said = found.pop("said")
    if args.json:
        print(json.dumps({**found, "problems": problems}, indent=2))
        return
    for problem in problems:
        print(problem)
    print(said)
    for left in found.get("left_out", ()):
        print(f"Left out: something that site {left['site']} wrote last, since {left['reason']}.")
