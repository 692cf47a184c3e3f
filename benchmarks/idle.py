"""What a node costs that has nothing to do: three `litecast node` processes that know each other, and no traffic.

The share of a core is the processor time of the whole process, user and system, from /proc: all its threads, ZeroMQ's
included. The kernel counts in hundredths of a second, so that 20 s resolve 0.05 %. What is written is what the kernel
says that the process handed to the disk.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring import AtMost, Benchmark, Comparison, Contestants, Figures
from benchmarks.nodes import Cluster

NAMES = ("alpha", "beta", "gamma")
IDLE = "a node with two idle peers"
CORE_SHARE = "core_percent"
WRITTEN = "written_bytes"
SETTLE_S = 2.0  # what starting costs is not part of it
CONVERGED_S = 8.0  # heads are told a few times more after the last change


def idle(*, quick: bool) -> Benchmark:
    """The mean share of a core that each of three idle nodes takes, in naive mode."""
    return _benchmark("idle", "naive", SETTLE_S, quick=quick)


def idle_convergent(*, quick: bool) -> Benchmark:
    """The same in convergent mode."""
    return _benchmark("idle-convergent", "convergent", CONVERGED_S, quick=quick)


def _benchmark(name: str, mode: str, settle_s: float, *, quick: bool) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"Three idle nodes with a secret in mode {mode}, as `litecast node` runs them",
        rounds=1,
        open=partial(_open, mode, settle_s, 5.0 if quick else 20.0),
        comparisons=(
            Comparison(subject=IDLE, figure=CORE_SHARE, target=AtMost(1.0)),
            Comparison(subject=IDLE, figure=WRITTEN, target=AtMost(0)),
        ),
        warm_up=False,
    )


@contextmanager
def _open(mode: str, settle_s: float, seconds: float) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as folder:
        cluster = Cluster(Path(folder), NAMES, mode=mode)
        with cluster.all_running() as nodes:
            time.sleep(settle_s)
            yield {IDLE: partial(_cost, [node.pid for node in nodes.values()], seconds)}


def _cost(processes: list[int], seconds: float) -> Figures:
    began_s = time.monotonic()
    time_before_s = sum(map(processor_time_s, processes))
    written_before = sum(map(_written_bytes, processes))
    time.sleep(seconds)
    used_s = sum(map(processor_time_s, processes)) - time_before_s
    written = sum(map(_written_bytes, processes)) - written_before
    return {
        CORE_SHARE: 100 * used_s / len(processes) / (time.monotonic() - began_s),
        WRITTEN: written / len(processes),
    }


def core_share(processes: list[int], seconds: float) -> float:
    """The mean share of a core that each process takes, in percent."""
    return _cost(processes, seconds)[CORE_SHARE]


def processor_time_s(process: int) -> float:
    """User and system time of a process, all its threads."""
    # Behind the name, which may hold anything, in parentheses: fields 14 and 15 are user and system time in ticks.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _written_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))
