"""Mode primary, with nodes as processes on loopback: what a forwarded write costs, how many go through in a second,
what a replica's read costs, and for how long nobody writes when the primary changes."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.child import Child, ChildFailed
from benchmarks.measuring import AtLeast, AtMost, Benchmark, Comparison, Contestants, Figures
from benchmarks.nodes import free_ports
from cluster.security import make_secret

NAMES = ("alpha", "beta", "gamma")
P50 = "p50_ms"
READ = "p50_us"
RATE = "writes_per_s"
SECONDS = "seconds"
TTL_S = 3.0
AT_ONCE = 64
READY_WITHIN_S = 60.0
POLL_S = 0.05

FORWARDED = "a forwarded write, until it can be read where it was asked for"
ADDED = "what it takes beyond a round trip on the bus"
LOCAL = "a write on the primary"
ROUND_TRIP = "a round trip on the bus"
REPO = "Repo.get on a replica"
REPO_PLAIN = "Repo.get, the same rows, without Litecast"
SQLITE = "sqlite3 on a replica's file"
SQLITE_PLAIN = "sqlite3, the same rows, without Litecast"
THROUGH = f"forwarded one-row writes from two replicas, {AT_ONCE} at once on each"
CRASH = f"nobody writes when the primary is killed (TTL {TTL_S:g} s)"
HANDOVER = "nobody writes when the primary is stopped"


def primary(*, quick: bool) -> Benchmark:
    """A forwarded write beside the bus, a replica's read beside a plain file's; how many, and how soon again."""
    return Benchmark(
        name="primary",
        title="Three nodes in mode primary on loopback, with a secret and the lease in a folder",
        rounds=1 if quick else 3,
        open=partial(_open, 100 if quick else 300, 2.0 if quick else 5.0),
        comparisons=(
            Comparison(subject=FORWARDED, baseline=LOCAL, figure=P50),
            Comparison(subject=FORWARDED, baseline=ROUND_TRIP, figure=P50),
            Comparison(subject=ADDED, figure=P50, target=AtMost(5)),
            Comparison(subject=REPO, baseline=REPO_PLAIN, figure=READ, target=AtMost(1.1)),
            Comparison(subject=SQLITE, baseline=SQLITE_PLAIN, figure=READ, target=AtMost(1.1)),
            Comparison(subject=THROUGH, figure=RATE, target=AtLeast(1_000)),
            Comparison(subject=CRASH, figure=SECONDS, target=AtMost(TTL_S + 1)),
            Comparison(subject=HANDOVER, figure=SECONDS, target=AtMost(1)),
        ),
        warm_up=False,
    )


@contextmanager
def _open(count: int, seconds: float) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as folder, _nodes(Path(folder) / "steady") as (first, *others):
        latest: dict[str, float] = {}

        def timed(subject: str, node: Child, what: str) -> Figures:
            latest[subject] = node.ask(what=what, count=count)[P50]
            return {P50: latest[subject]}

        reads: dict[str, float] = {}

        def read(name: str) -> Figures:
            if name == "repo":
                reads.update(others[0].ask(what="reads", count=10 * count))
            return {READ: reads[name]}

        places = iter(range(1_000))
        yield {
            LOCAL: lambda: timed(LOCAL, first, "writes"),
            ROUND_TRIP: lambda: timed(ROUND_TRIP, others[0], "round trips"),
            FORWARDED: lambda: timed(FORWARDED, others[0], "writes"),
            ADDED: lambda: {P50: latest[FORWARDED] - latest[ROUND_TRIP]},
            REPO: lambda: read("repo"),
            REPO_PLAIN: lambda: read("repo_plain"),
            SQLITE: lambda: read("sqlite3"),
            SQLITE_PLAIN: lambda: read("sqlite3_plain"),
            THROUGH: lambda: _through(others, seconds),
            CRASH: lambda: _gap(
                Path(folder) / f"{next(places)}", lambda node: os.kill(node.ready["pid"], signal.SIGKILL)
            ),
            HANDOVER: lambda: _gap(Path(folder) / f"{next(places)}", Child.close),
        }


def _through(replicas: Sequence[Child], seconds: float) -> Figures:
    found = _at_once([partial(node.ask, what="through", seconds=seconds, at_once=AT_ONCE) for node in replicas])
    return {RATE: sum(one[RATE] for one in found)}


def _gap(folder: Path, end: Callable[[Child], None]) -> Figures:
    """For how long a replica's writes were held when the primary ended in this way."""
    with _nodes(folder) as (first, second, _):

        def ending() -> dict[str, Any]:
            time.sleep(1.0)
            end(first)
            return {}

        found, _ = _at_once([partial(second.ask, what="gap", seconds=TTL_S + 4), ending])
        return {SECONDS: found[SECONDS]}


def _at_once(acts: Sequence[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """What each returns. Raises ChildFailed if one failed."""
    found: list[dict[str, Any] | None] = [None] * len(acts)

    def act(number: int) -> None:
        found[number] = acts[number]()

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if any(one is None for one in found):
        raise ChildFailed("a node did not do what it was asked")
    return [one for one in found if one is not None]


@contextmanager
def _nodes(folder: Path) -> Iterator[list[Child]]:
    """Three nodes that are ready, the primary first."""
    (folder / "lease").mkdir(parents=True)
    ports = free_ports(2 * len(NAMES))
    secret = make_secret()
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                Child(
                    "primary_node",
                    LITECAST_NODE__NAME=name,
                    LITECAST_NODE__DATA_DIR=str(folder / name),
                    LITECAST_CLUSTER__SIZE=str(len(NAMES)),
                    LITECAST_BUS__SECRET=secret,
                    LITECAST_BUS__BIND=f"tcp://127.0.0.1:{bus}",
                    LITECAST_HTTP__BIND=f"127.0.0.1:{http}",
                    LITECAST_DISCOVERY__METHOD="static",
                    LITECAST_DISCOVERY__PEERS=",".join(f"127.0.0.1:{port}" for port in ports[: len(NAMES)]),
                    LITECAST_REPLICATION__MODE="primary",
                    LITECAST_LEASE__PROVIDER="object_store",
                    LITECAST_LEASE__URL=(folder / "lease").as_uri(),
                    LITECAST_LEASE__TTL_S=str(TTL_S),
                    LITECAST_FORWARDING__HOLD_S="30",
                    LITECAST_FORWARDING__CALL_S="30",
                )
            )
            for name, bus, http in zip(NAMES, ports[: len(NAMES)], ports[len(NAMES) :], strict=True)
        ]
        deadline_s = time.monotonic() + READY_WITHIN_S
        while True:
            said = [node.ask(what="status") for node in nodes]
            if all(one["peers"] == len(NAMES) - 1 for one in said) and sum(one["primary"] for one in said) == 1:
                break
            if time.monotonic() > deadline_s:
                raise ChildFailed(f"the nodes were not ready within {READY_WITHIN_S:g} s")
            time.sleep(POLL_S)
        nodes.sort(key=lambda node: not node.ask(what="status")["primary"])
        for node in nodes:
            node.ask(what="writes", count=20)
        yield nodes
