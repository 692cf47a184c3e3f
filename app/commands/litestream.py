"""`litecast litestream`: a node's own address, for Litestream around it."""

import argparse
import os
from pathlib import Path

from app.commands import Subparsers

LOOK_EVERY_S = 60.0


def register(subparsers: Subparsers) -> None:
    """Adds `litestream`."""
    parser = subparsers.add_parser(
        "litestream",
        help="claim a node's own address for Litestream around it",
        description="For the start script in docs/litestream.md, before Litestream and the node. Claims "
        "LITESTREAM_URL/<node's name> for this node and prints, for a shell, the variables that litestream.yml names. "
        "Exit status 1, and a line that says whose it is, if another node has that address.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's settings")
    parser.add_argument(
        "--watch",
        type=int,
        metavar="PID",
        help="claim nothing: end process PID, which started this one, as soon as another node claims the address",
    )
    parser.add_argument("--every", type=float, default=LOOK_EVERY_S, metavar="SECONDS", help="how often to look")


def run(args: argparse.Namespace) -> int:
    """Returns once the address is claimed, or PID has ended. Raises ConfigError, AddressTaken, AddressUnusable."""
    from app.config import load_config
    from app.errors import ConfigError
    from app.litestream.address import Address
    from app.litestream.starting import shell_variables, without_database
    from app.litestream.watching import watch

    config = load_config(args.config, os.environ)
    if (base := os.environ.get("LITESTREAM_URL", "")) == "":
        raise ConfigError("LITESTREAM_URL is not set: name a place for all nodes, s3://BUCKET/FOLDER or file:///FOLDER")
    if config.node.slots_dir is not None:
        raise ConfigError("Litestream's address has the node's name in it: give node.name instead of node.slots_dir")
    node, database = config.node, config.database.path
    address = Address(base, cluster=config.cluster.name, node=node.name, data_dir=node.data_dir, environ=os.environ)
    if args.watch is not None:
        if not (claim := os.environ.get("LITESTREAM_CLAIM", "")).isdecimal():
            raise ConfigError(
                "--watch needs LITESTREAM_CLAIM, which `litecast litestream` prints: see docs/litestream.md"
            )
        watch(address, pid=args.watch, claim=int(claim), every_s=args.every)
        return 0
    number = address.claim()
    without_database(database, node.data_dir)
    print(shell_variables(database=database, url=address.url, claim=number))
    return 0
