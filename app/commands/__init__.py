"""The subcommands of `litecast`, a module each (`dev-proxy` is `dev_proxy.py`).

A command's module is imported to build the command line, so it imports what is slow inside `run`.
"""

import argparse
from typing import Protocol

type Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


class Command(Protocol):
    """What a command's module has."""

    def register(self, subparsers: Subparsers) -> None:
        """Adds the command's parser, under the command's name."""

    def run(self, args: argparse.Namespace) -> int:
        """Does what the command says and gives the exit status.

        An error that the user can do something about is raised: `app.cli` makes a line of it.
        """
