"""`litecast`: the command line.

Exit status: 0 done, 1 could not (one line on standard error says why and what to do), 2 the command line is wrong,
130 after Ctrl-C.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module, util
from types import FrameType
from typing import cast

from app.commands import Command

# In the order in which `litecast --help` lists them.
COMMANDS = (
    "demo",
    "node",
    "run",
    "status",
    "peers",
    "promote",
    "tail",
    "drift",
    "doctor",
    "attach",
    "detach",
    "backup",
    "restore",
    "litestream",
    "keygen",
    "dev-proxy",
    "bench",
)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
# What a shell reports of a program that SIGPIPE ended.
EXIT_PIPE_CLOSED = 141


def program(argv: Sequence[str] | None = None) -> None:
    """The process `litecast`: runs `main` and ends with its exit status."""
    status = main(argv)
    if "obstore" in sys.modules:
        # Its threads may be about to drop what they had to say to Python. An interpreter that is being taken down ends
        # a thread that asks for it, and Rust aborts the process for that: status 134, though all was done.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `litecast` with these arguments (default: the process's own) and returns its exit status.

    Raises SystemExit where argparse does (help, version, a wrong command line), and whatever is not the user's doing.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if os.getpid() == 1:
        # From PID 1, a container's only process, the kernel keeps signals that have no handler: until a command has set
        # its own, a stop would be without effect.
        signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (`litecast status | head`). What is still buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE_CLOSED
    except Exception as error:
        told = [leaf for leaf in _leaves(error) if _is_for_the_user(leaf)]
        if len(told) < len(list(_leaves(error))):
            raise
        print(f"litecast: {' '.join(str(told[0]).split())}", file=sys.stderr)
        return EXIT_FAILED


def _run(arguments: Sequence[str]) -> int:
    # With the command known, only its module is imported: each has its own, and `litecast keygen` needs no web server.
    names = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    commands = {name: _command(name) for name in names if _exists(name)}
    parser = argparse.ArgumentParser(
        prog="litecast",
        description="An ordinary SQLite file on every node of a cluster, and the cast that keeps them equal. Or not.",
    )
    parser.add_argument("--version", action=_PrintVersion, help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in commands.values():
        command.register(subparsers)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    status = commands[args.command].run(args)
    sys.stdout.flush()  # a closed pipe shows here, where it is dealt with, and not at exit
    return status


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _module(name: str) -> str:
    return f"app.commands.{name.replace('-', '_')}"


def _exists(name: str) -> bool:
    return util.find_spec(_module(name)) is not None


def _command(name: str) -> Command:
    return cast("Command", import_module(_module(name)))


class _PrintVersion(argparse.Action):
    """As argparse's own "version", but asks for the version only when it is wanted: that reads files."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"litecast {version('litecast')}")
        parser.exit()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors themselves, where a task group has wrapped them."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _is_for_the_user(error: BaseException) -> bool:
    """Whether the error's own text tells the user what to do, so that a traceback would only be in the way."""
    from app.errors import AppError
    from cluster.errors import ClusterError
    from replication.errors import ReplicationError

    return isinstance(error, AppError | ClusterError | ReplicationError)
