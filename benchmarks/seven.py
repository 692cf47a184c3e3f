"""Seven nodes: what one more peer costs. Idle, that is heartbeats and heads; and with writes, that is casts.

Times are processor time of whole processes, from /proc. A commit is made by plain `sqlite3` in this process, on the
first node's file; that node folds it and casts it six times, and each of the others merges it."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.idle import CONVERGED_S, CORE_SHARE, core_share, processor_time_s
from benchmarks.measuring import Benchmark, Comparison, Contestants, Figures
from benchmarks.nodes import Cluster

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta")
FEW = 3
PER_COMMIT = "cpu_us"
IDLE = "one of {} idle nodes"
WRITER = "the node of {} on whose file a program writes, per commit"
OTHER = "each other of {} nodes, per commit"
RATE = 50


def seven(*, quick: bool) -> Benchmark:
    """Three nodes beside seven."""
    many = len(NAMES)
    return Benchmark(
        name="seven",
        title=f"Three and seven nodes in mode convergent on loopback, with a secret; {RATE} commits/s on one of them",
        rounds=1,
        open=partial(_open, 5.0 if quick else 20.0),
        comparisons=(
            Comparison(subject=IDLE.format(many), baseline=IDLE.format(FEW), figure=CORE_SHARE),
            Comparison(subject=WRITER.format(many), baseline=WRITER.format(FEW), figure=PER_COMMIT),
            Comparison(subject=OTHER.format(many), baseline=OTHER.format(FEW), figure=PER_COMMIT),
        ),
        warm_up=False,
    )


@contextmanager
def _open(seconds: float) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as folder:
        found: dict[str, Figures] = {}
        for names in (NAMES[:FEW], NAMES):  # one after the other: they would disturb each other
            found |= _measure(Cluster(Path(folder) / f"{len(names)}", names, mode="convergent"), seconds)
        yield {subject: partial(lambda figures: figures, figures) for subject, figures in found.items()}


def _measure(cluster: Cluster, seconds: float) -> dict[str, Figures]:
    names = list(cluster.places)
    with cluster.all_running() as nodes:
        processes = [nodes[name].pid for name in names]
        time.sleep(CONVERGED_S)
        idle = core_share(processes, seconds)
        before = [processor_time_s(process) for process in processes]
        began_s = time.monotonic()
        commits = _write(cluster.places[names[0]].database, seconds)
        time.sleep(1.0)
        lasted_s = time.monotonic() - began_s
        spent = [processor_time_s(process) - at for process, at in zip(processes, before, strict=True)]
    own, *others = (1e6 * (one - idle / 100 * lasted_s) / commits for one in spent)
    return {
        IDLE.format(len(names)): {CORE_SHARE: idle},
        WRITER.format(len(names)): {PER_COMMIT: own},
        OTHER.format(len(names)): {PER_COMMIT: sum(others) / len(others)},
    }


def _write(database: Path, seconds: float) -> int:
    with closing(sqlite3.connect(database, isolation_level=None, timeout=20)) as connection:
        began_s = time.monotonic()
        commits = 0
        while commits < seconds * RATE:
            connection.execute(
                "INSERT INTO page_counts (page, count) VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
                (f"page {commits % 100}",),
            )
            commits += 1
            time.sleep(max(0.0, began_s + commits / RATE - time.monotonic()))
    return commits
