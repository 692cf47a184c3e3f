"""What commands have in common that ask a node: which one, with which secret, and how tables are printed."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from app.admin_client import AdminClient
    from app.node_client import NodeReport


def add_arguments(parser: argparse.ArgumentParser, *, exclusive: bool = True) -> None:
    """Adds `--config`, `--url` and `--json`; not `exclusive` where a file may have the secret for another address."""
    where = parser.add_mutually_exclusive_group() if exclusive else parser
    where.add_argument("--config", type=Path, metavar="FILE", help="ask the node that this file configures")
    where.add_argument("--url", metavar="URL", help="ask the node at this address, such as http://127.0.0.1:8080")
    parser.add_argument("--json", action="store_true", help="print JSON")


def ask(args: argparse.Namespace) -> "NodeReport":
    """What the node says that the arguments name. Raises ConfigError or NodeUnreachable."""
    from app.config import load_config
    from app.node_client import ask_node, url_of

    if args.url is not None:
        return ask_node(_url(args.url))
    return ask_node(url_of(load_config(args.config, os.environ).http.bind))


def admin_client(args: argparse.Namespace) -> "AdminClient":
    """Asks that node, as an admin if the settings have the cluster's secret. Raises ConfigError."""
    from app.admin_client import AdminClient
    from app.admin_token import admin_token
    from app.config import load_config
    from app.node_client import url_of

    config = load_config(args.config, os.environ)
    return AdminClient(_url(args.url) if args.url is not None else url_of(config.http.bind), admin_token(config))


def _url(given: str) -> str:
    return given if "://" in given else f"http://{given}"


def console() -> "Console":
    """A console that cuts lines to a terminal's width, and never where a program or a file reads them."""
    from rich.console import Console

    terminal = Console(highlight=False, markup=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, width=1000)
