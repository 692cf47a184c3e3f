"""`litecast node`: run a node until it is told to stop."""

import argparse
import os
from pathlib import Path

from app.commands import Subparsers


def register(subparsers: Subparsers) -> None:
    """Adds `node`."""
    parser = subparsers.add_parser(
        "node",
        help="run a node: bus, replication, web application",
        description="Runs a node until SIGTERM or Ctrl-C. Exit status 0 after an orderly stop, 1 if it could not run.",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the node's settings; without it, defaults and the environment"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the node. Raises ConfigError, ClusterError, ReplicationError or AppError if it cannot."""
    import asyncio

    from app.config import load_config
    from app.logs import configure_logging
    from app.running import run_node
    from app.slots import claimed

    config = load_config(args.config, os.environ)
    configure_logging(config.log.level, config.log.format)
    with claimed(config) as settled:
        asyncio.run(run_node(settled))
    return 0
