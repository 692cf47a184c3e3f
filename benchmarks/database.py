"""`Repo` against bare `sqlite3` on the same kind of file, at equal durability."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.child import Child
from benchmarks.measuring import AtMost, Benchmark, Comparison, Contestants

READ, WRITE, VIEW = "read", "write", "view"
_WORK = {READ: "point read", WRITE: "update", VIEW: "read and update in a transaction"}
_READS = 10_000
_WRITES = {"FULL": 200, "NORMAL": 1_000}  # with fsync a write may take milliseconds where the disk has other guests
_QUICK = 5  # times fewer


def _name(who: str, work: str, synchronous: str) -> str:
    end = "" if work == READ else f", {synchronous}"
    return f"{'Repo' if who == 'repo' else 'sqlite3'}, {_WORK[work]}{end}"


def _compared(work: str, synchronous: str, figure: str, target: AtMost | None = None) -> Comparison:
    return Comparison(
        subject=_name("repo", work, synchronous),
        baseline=_name("bare", work, synchronous),
        figure=figure,
        target=target,
    )


def repo(*, quick: bool) -> Benchmark:
    """Point reads and single writes."""
    return Benchmark(
        name="repo",
        title="Repo in its event loop, sqlite3 in the thread that waits for it; WAL",
        rounds=3 if quick else 9,
        open=partial(_open, quick),
        comparisons=(
            _compared(READ, "FULL", "p50_us", AtMost(2)),
            _compared(READ, "FULL", "p99_us"),
            _compared(WRITE, "FULL", "p50_us", AtMost(3)),
            _compared(WRITE, "FULL", "p99_us"),
            _compared(WRITE, "NORMAL", "p50_us", AtMost(3)),
            _compared(WRITE, "NORMAL", "p99_us"),
            _compared(VIEW, "FULL", "p50_us"),
            _compared(VIEW, "NORMAL", "p50_us"),
        ),
    )


def _count(work: str, synchronous: str) -> int:
    return _READS if work == READ else _WRITES[synchronous]


@contextmanager
def _open(quick: bool) -> Iterator[Contestants]:
    faster = _QUICK if quick else 1
    with Child("repo_and_sqlite") as child:
        yield {
            _name(who, work, synchronous): partial(
                child.ask, who=who, work=work, synchronous=synchronous, count=_count(work, synchronous) // faster
            )
            for work, synchronous in (
                (READ, "FULL"),
                (WRITE, "FULL"),
                (WRITE, "NORMAL"),
                (VIEW, "FULL"),
                (VIEW, "NORMAL"),
            )
            for who in ("repo", "bare")
        }
