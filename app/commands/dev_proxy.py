"""`litecast dev-proxy`: one address in front of several nodes."""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.commands import Subparsers
from app.errors import AppError

if TYPE_CHECKING:
    from app.devproxy.watch import Places
    from app.devproxy.wishes import Latencies
    from cluster.address import Address

DEFAULT_BIND = "127.0.0.1:8000"
DEFAULT_PORT = 8080


def register(subparsers: Subparsers) -> None:
    """Adds `dev-proxy`."""
    parser = subparsers.add_parser(
        "dev-proxy",
        help="spread requests over several nodes, for development",
        description="Passes HTTP requests to the nodes that are ready, in turn, until SIGTERM or Ctrl-C. The response "
        "header X-Served-By names the node. It does what a response's fly-replay asks for, and heeds a request's "
        "fly-prefer-region, fly-force-region, fly-prefer-instance-id and fly-force-instance-id, as Fly's proxy does. "
        "For development and compose, not for the open internet; it refuses to run on Fly.",
        epilog="Exit status 0 after an orderly stop, 1 if it could not run.",
    )
    parser.add_argument(
        "--bind", default=DEFAULT_BIND, metavar="HOST:PORT", help=f"where to listen (default: {DEFAULT_BIND})"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--dns-name", metavar="NAME", help="there is a node at each address of this name, such as node")
    where.add_argument(
        "--node", action="append", metavar="URL", help="there is a node at http://HOST:PORT; may be given several times"
    )
    parser.add_argument(
        "--programs", action="store_true", help="requests are for the programs beside the nodes, as their settings say"
    )
    parser.add_argument(
        "--region", default="", metavar="REGION", help="where clients are that send no fly-region: the nearest answers"
    )
    parser.add_argument(
        "--latency",
        action="append",
        default=[],
        metavar="A-B=MS",
        help="a round trip between regions A and B takes so many milliseconds; may be given several times",
    )
    parser.add_argument(
        "--port", type=int, metavar="P", help=f"with --dns-name: the nodes' web port (default: {DEFAULT_PORT})"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the proxy. Raises AppError on Fly, and if an argument or the address to listen at cannot be used."""
    import asyncio

    from app.config import load_config
    from app.devproxy.running import run_dev_proxy
    from app.logs import configure_logging

    if os.environ.get("FLY_APP_NAME"):
        raise AppError("dev-proxy plays Fly's proxy for development, and does not run on Fly, which has its own")
    # Of a node's settings only those of the log are meant for this command.
    log = load_config(None, {name: value for name, value in os.environ.items() if name.startswith("LITECAST_LOG_")}).log
    listen_at = _address("--bind", args.bind)
    places = _places(args)
    configure_logging(log.level, log.format)
    latencies = _latencies(args.latency)
    asyncio.run(run_dev_proxy(listen_at, places, programs=args.programs, region=args.region, latencies=latencies))
    return 0


def _places(args: argparse.Namespace) -> "Places":
    from app.devproxy.watch import Listed, Named
    from cluster.address import Address
    from cluster.errors import AddressError

    if args.dns_name is None:
        if args.port is not None:
            raise AppError("--port goes with --dns-name; with --node the port is part of the URL")
        return Listed([_address("--node", url) for url in args.node])
    try:
        name = Address(args.dns_name, DEFAULT_PORT if args.port is None else args.port)
    except AddressError as error:
        raise AppError(f"--dns-name {args.dns_name}: {error}") from None
    if name.is_wildcard or name.port == 0:
        raise AppError(f"--dns-name {args.dns_name}: no node can be reached there; name a host and its port")
    return Named(name.host, name.port)


def _latencies(texts: Sequence[str]) -> "Latencies":
    from app.devproxy.wishes import BadLatency, Latencies, parse_latency

    try:
        return Latencies(dict(map(parse_latency, texts)))
    except BadLatency as error:
        raise AppError(f"--latency {error}") from None


def _address(option: str, text: str) -> "Address":
    from cluster.address import parse_address
    from cluster.errors import AddressError

    scheme, found, rest = text.rpartition("://")
    try:
        if found and scheme.lower() != "http":
            raise AppError(f"{option} {text}: nodes speak http; write http://HOST:PORT")
        return parse_address(rest.removesuffix("/"))
    except AddressError as error:
        raise AppError(f"{option} {text}: {error}") from None
