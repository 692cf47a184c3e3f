"""`make soak`: three real nodes for an hour under load and faults. Memory and files must level off, and all be equal.

Writers on each node's file write for all that time in the same room, so whatever grows is ours. Exit status 0 if
everything held, 1 if not; 130 on Ctrl-C, with what was seen until then."""

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Final

from tests.soak import writer
from tests.soak.faults import Faults
from tests.soak.growth import FIGURES, LEVEL, MIB, Sample, growth, look
from tests.support.convergent_nodes import introduce, settle, start
from tests.support.node_process import NodeProcess, node_processes

TABLES: Final = ("totals", "items")
LEVELS_FROM_MINUTES: Final = 20.0
"""In a shorter run nothing has had the time to level off."""
SETTINGS: Final = {
    "replication__mode": "convergent",
    "replication.tables.totals__counters": ["n"],
    "replication.tables.items__merge": "cell",
    "replication__journal_max_age_s": 120.0,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long it writes (60)")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between transactions of each writer (0.02)")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between faults, on average (20)")
    parser.add_argument("--seed", type=int, default=1, help="which faults there are (1)")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object on standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="litecast-soak-") as folder, node_processes(Path(folder)) as make:
        nodes = [make(name, **SETTINGS) for name in "abc"]
        introduce(nodes)
        for node in nodes:
            node.database.parent.mkdir(parents=True)
            with closing(sqlite3.connect(node.database)) as connection:
                connection.executescript(writer.SCHEMA)
        start(*nodes)
        return _soak(nodes, options)


def _soak(nodes: Sequence[NodeProcess], options: argparse.Namespace) -> int:
    samples: dict[str, list[Sample]] = {node.name: [] for node in nodes}
    began_s, interrupted = time.monotonic(), False
    faults = Faults(nodes, every_s=options.every, random=Random(options.seed))
    with ExitStack() as stack:
        writers = [stack.enter_context(_writing(node, options.pace)) for node in nodes]
        faults.start()
        try:
            _watch(nodes, writers, faults, samples, until_s=began_s + 60 * options.minutes)
        except KeyboardInterrupt:
            interrupted = True
        lasted_s = time.monotonic() - began_s
        faults.stop()
        for one in writers:
            one.send_signal(signal.SIGTERM)
        acknowledged = {
            node.name: int(one.communicate(timeout=120)[0]) for node, one in zip(nodes, writers, strict=True)
        }
    settle(nodes, tables=TABLES, within_s=120)
    wrong = [*_miscounted(nodes, acknowledged), *_not_equal(nodes[0])]
    if lasted_s >= 60 * LEVELS_FROM_MINUTES:
        wrong += _not_level(nodes, samples)
    _tell(nodes, samples, acknowledged, faults, lasted_s, wrong, as_json=options.json)
    return 130 if interrupted else int(bool(wrong))


def _writing(node: NodeProcess, pace_s: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, writer.__file__, str(node.database), node.name, str(pace_s)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)


def _watch(
    nodes: Sequence[NodeProcess],
    writers: Sequence[subprocess.Popen[bytes]],
    faults: Faults,
    samples: dict[str, list[Sample]],
    *,
    until_s: float,
) -> None:
    began_s = told_s = time.monotonic()
    while (now_s := time.monotonic()) < until_s:
        for one in writers:
            assert one.poll() is None, f"a writer ended with {one.returncode}"
        if faults.failed is not None:
            raise faults.failed
        for node in nodes:
            samples[node.name].append(look(now_s - began_s, node.pid, node.database))
        if now_s - told_s >= 60:
            told_s = now_s
            _say(f"{(now_s - began_s) / 60:4.0f} min  {_line(nodes, samples)}  faults {sum(faults.done.values())}")
        time.sleep(min(2.0, max(0.0, until_s - now_s)))


def _line(nodes: Sequence[NodeProcess], samples: dict[str, list[Sample]]) -> str:
    last = {node.name: samples[node.name][-1] for node in nodes if samples[node.name]}
    return "  ".join(
        f"{name}: {one.memory / MIB:.0f} MiB, {one.used / MIB:.1f} in a file of {one.database / MIB:.1f}, "
        f"wal {one.wal / MIB:.1f}"
        for name, one in last.items()
    )


def _miscounted(nodes: Sequence[NodeProcess], acknowledged: dict[str, int]) -> list[str]:
    """Every acknowledged transaction is counted once, on all nodes: their files are equal by now."""
    with closing(sqlite3.connect(nodes[0].database)) as file:
        found = dict(file.execute("SELECT name, n FROM totals"))
    expected = {**acknowledged, "all": sum(acknowledged.values())}
    return [
        f"the total of {name} is {found.get(name)} and should be {count}"
        for name, count in expected.items()
        if found.get(name) != count
    ]


def _not_equal(node: NodeProcess) -> list[str]:
    command = [sys.executable, "-m", "app", "drift", "--config", str(node.config_file)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return [] if found.returncode == 0 else [f"litecast drift: {found.stdout}{found.stderr}"]


def _not_level(nodes: Sequence[NodeProcess], samples: dict[str, list[Sample]]) -> list[str]:
    first = nodes[0].name
    grown = [(first, "memory"), *((node.name, "used") for node in nodes)]
    return [
        f"{figure} of {name} grew to {ratio:.2f} of what it was"
        for name, figure in grown
        if (ratio := growth(samples[name], figure)) > LEVEL
    ]


def _tell(
    nodes: Sequence[NodeProcess],
    samples: dict[str, list[Sample]],
    acknowledged: dict[str, int],
    faults: Faults,
    lasted_s: float,
    wrong: Sequence[str],
    *,
    as_json: bool,
) -> None:
    figures = {
        "minutes": round(lasted_s / 60, 1),
        "commits": sum(acknowledged.values()),
        "commits_per_s": round(sum(acknowledged.values()) / lasted_s, 1),
        "faults": dict(faults.done),
        "grown": {node.name: {what: round(growth(samples[node.name], what), 3) for what in FIGURES} for node in nodes},
        "most_mib": {
            node.name: {what: round(max(getattr(one, what) for one in samples[node.name]) / MIB, 1) for what in FIGURES}
            for node in nodes
        },
        "wrong": list(wrong),
    }
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    for name, figure in figures.items():
        print(f"{name:>14}: {figure}")
    print("all equal and exact" if not wrong else "IT DID NOT HOLD")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
