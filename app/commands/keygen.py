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


def run(args: argparse.Namespace) -> int:
    """Prints the secret or writes it. Raises AppError if the file is there already or cannot be made."""
    from cluster.security import make_secret

    output: Path | None = args.output
    if output is None:
        print(make_secret())
    else:
        _write(output, make_secret())
    return 0


def _write(path: Path, secret: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
    except FileExistsError:
        raise AppError(
            f"{path} is there already; a secret is never overwritten: remove it first, or choose another file"
        ) from None
    except OSError as error:
        raise AppError(f"{path} cannot be written: {error.strerror}; choose another file with --output") from None
