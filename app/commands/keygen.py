"""`litecast keygen`: a secret for a cluster."""

import argparse
import os
from pathlib import Path

from app.commands import Subparsers
from app.errors import AppError


def register(subparsers: Subparsers) -> None:
    """Adds `keygen`."""
    parser = subparsers.add_parser(
        "keygen",
        help="make a secret for a cluster",
        description="Prints a new secret, 64 hex digits, or writes it to a file that only you can read. "
        "Give it to every node of the cluster as bus.secret, LITECAST_BUS__SECRET, or the file bus.secret_file names.",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it to FILE, which must not exist yet")
    parser.add_argument(
        "--if-missing", action="store_true", help="with --output: leave a FILE that is there as it is, without an error"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the secret or writes it. Raises AppError if the file is there already or cannot be made."""
    from cluster.security import make_secret

    output: Path | None = args.output
    if output is None:
        if args.if_missing:
            raise AppError("--if-missing needs --output FILE, the file that may be missing")
        print(make_secret())
    elif not (args.if_missing and output.is_file()):
        _write(output, make_secret(), may_exist=args.if_missing)
    return 0


def _write(path: Path, secret: str, *, may_exist: bool) -> None:
    # Many may do this at once, and others read: the file appears complete or not at all, and the first one stays.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secret + "\n")
            os.link(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        if may_exist and path.is_file():
            return
        raise AppError(
            f"{path} is there already; a secret is never overwritten: remove it first, or choose another file"
        ) from None
    except OSError as error:
        raise AppError(f"{path} cannot be written: {error.strerror}; choose another file with --output") from None
