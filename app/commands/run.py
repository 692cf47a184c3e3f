"""`litecast run`: a node, and any program beside it."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from app.commands import Subparsers


def register(subparsers: Subparsers) -> None:
    """Adds `run`."""
    parser = subparsers.add_parser(
        "run",
        usage="litecast run [--config FILE] -- CMD [ARGUMENT ...]",
        help="run a node beside any program that keeps its data in SQLite",
        description="Runs a node, and once it has caught up with its peers, CMD beside it: any program that keeps its "
        "data in the node's SQLite file, whose path it finds in DATABASE_PATH. Signals are passed on to the program, "
        "and the node stops when the program ends. Exit status: the program's, 128 + n if signal n ended it; 127 if "
        "there is no such program, 126 if it cannot be run; 1 if the node could not start, or could not go on (the "
        "program is ended then). See docs/howto-run.md.",
    )
    parser.set_defaults(wrong=parser.error)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the node's settings; without it, defaults and the environment"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- CMD", help="the program and its arguments")


def run(args: argparse.Namespace) -> int:
    """Runs both; the program's exit status. Raises ConfigError, ClusterError, ReplicationError or AppError if the node
    cannot."""
    import asyncio

    from app.beside.program import ProgramNotStarted
    from app.beside.supervising import run_beside
    from app.config import load_config
    from app.logs import configure_logging
    from app.slots import claimed

    wrong: Callable[[str], NoReturn] = args.wrong
    command: list[str] = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not command:
        wrong("name the program after --: litecast run --config FILE -- CMD")
    config = load_config(args.config, os.environ, own_tables=())
    try:
        _look_for(command[0])
        configure_logging(config.log.level, config.log.format)
        with claimed(config) as settled:
            return asyncio.run(run_beside(settled, command))
    except ProgramNotStarted as error:
        print(f"litecast: {error}", file=sys.stderr)
        return error.exit_status


def _look_for(name: str) -> None:
    """Raises ProgramNotStarted where it can be told before the node starts."""
    from app.beside.launch import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND
    from app.beside.program import ProgramNotStarted

    if shutil.which(name) is not None:
        return
    if Path(name).exists() and os.sep in name:
        raise ProgramNotStarted(name, "is not a program that this user can run", EXIT_NOT_EXECUTABLE)
    raise ProgramNotStarted(name, "is not there", EXIT_NOT_FOUND)
