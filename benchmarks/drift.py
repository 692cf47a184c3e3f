"""Reading all rows to tell whether nodes are equal, against only reading them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.child import Child
from benchmarks.measuring import Benchmark, Comparison, Contestants

ROWS = 200_000
_READ = "rows read, 256 at a time"
_SAID = {
    "plain": "digest, not attached",
    "delivered": "digest, all delivered",
    "new": "digest, nothing known of others",
    "scan": "scan for damage",
}


def drift(*, quick: bool) -> Benchmark:
    """Digests and scans."""
    return Benchmark(
        name="drift",
        title=f"Reading {ROWS:,} rows of 5 columns in no order of their keys, and telling what is in them",
        rounds=2 if quick else 5,
        open=_open,
        comparisons=tuple(
            Comparison(subject=said, baseline=_READ, figure=figure)
            for said in _SAID.values()
            for figure in ("rows_per_s", "rows_per_cpu_s")
        ),
    )


@contextmanager
def _open() -> Iterator[Contestants]:
    with Child("drift", rows=ROWS) as child:
        yield {_READ: partial(child.ask, work="read")} | {
            said: partial(child.ask, work=work) for work, said in _SAID.items()
        }
