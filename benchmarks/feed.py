"""How soon a reader of the change feed sees a commit on its node, and how fast one reads on that was away."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.child import Child
from benchmarks.measuring import AtMost, Benchmark, Comparison, Contestants

POLLED = "plain SQLite, data_version asked each millisecond"
TOLD = {
    "repo": "change told after the Repo's commit",
    "sqlite3": "the same after a commit by sqlite3",
    "live": "a live query's rows after a commit by sqlite3",
}
BEHIND = "changes read by who was away, 1 row a changeset"
BEHIND_MANY = "the same, 1,000 rows a changeset"
SELECTED = "the same rows by SELECT"


def feed(*, quick: bool) -> Benchmark:
    """A node alone, its reader in the same process, 100 commits a second."""
    count = 100 if quick else 300
    return Benchmark(
        name="feed",
        title="The change feed of a node: from commit to reader, and reading on",
        rounds=2 if quick else 5,
        open=partial(_open, count),
        comparisons=(
            *(
                Comparison(subject=said, figure=figure, target=AtMost(5) if figure == "p50_ms" else None)
                for said in TOLD.values()
                for figure in ("p50_ms", "p99_ms")
            ),
            *(Comparison(subject=said, baseline=POLLED, figure="p50_ms") for said in (TOLD["sqlite3"], TOLD["live"])),
            *(Comparison(subject=said, baseline=SELECTED, figure="rows_per_s") for said in (BEHIND, BEHIND_MANY)),
        ),
    )


@contextmanager
def _open(count: int) -> Iterator[Contestants]:
    with Child("feed") as child:
        yield {
            POLLED: partial(child.ask, work="polled", count=count),
            **{said: partial(child.ask, work=work, count=count) for work, said in TOLD.items()},
            BEHIND: partial(child.ask, work="behind", batch=1, count=500),
            BEHIND_MANY: partial(child.ask, work="behind", batch=1_000, count=10_000),
            SELECTED: partial(child.ask, work="select", count=10_000),
        }
