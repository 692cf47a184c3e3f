"""The engine against plain SQLite: what capture costs who writes, and what merging costs who receives."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.child import Child
from benchmarks.measuring import AtLeast, Benchmark, Comparison, Contestants, Figures

WALL, PROCESSOR = "rows_per_s", "rows_per_cpu_s"

_CAPTURE_TARGETS = {
    "insert": 0.65,
    "insert new": 0.65,
    "insert each": 0.6,
    "update": 0.6,
    "update each": 0.6,
    "update all": 0.6,
    "delete": 0.4,
    "delete all": 0.4,
}
_SAID = {
    "insert": "inserts, 1,000 a transaction",
    "insert new": "the same into a new file",
    "insert each": "inserts, one a transaction",
    "update": "updates, 1,000 a transaction",
    "update each": "updates, one a transaction",
    "update all": "all rows updated by one statement",
    "delete": "deletes by key in one transaction",
    "delete all": "all rows deleted by one statement",
}
_SHAPES = {"narrow": "5 columns", "wide": "100 columns"}
_ROWS = {"narrow": 10_000, "wide": 2_000}
_EACH = {"narrow": 1_000, "wide": 500}


def capture(*, quick: bool) -> Benchmark:
    """Writes to attached tables."""
    return Benchmark(
        name="capture",
        title="Writing to an attached table, and to a plain one of equal size; WAL, synchronous=NORMAL",
        rounds=3 if quick else 15,
        open=partial(_open_capture, quick),
        comparisons=tuple(
            Comparison(
                subject=_captured(shape, work, attached=True),
                baseline=_captured(shape, work, attached=False),
                figure=figure,
                target=AtLeast(target) if figure == WALL else None,
            )
            for shape in _SHAPES
            for work, target in _CAPTURE_TARGETS.items()
            for figure in (WALL, PROCESSOR)
        ),
    )


def _captured(shape: str, work: str, *, attached: bool) -> str:
    return f"{_SHAPES[shape]}, {_SAID[work]}" if attached else f"{_SHAPES[shape]}, {work}, plain"


@contextmanager
def _open_capture(quick: bool) -> Iterator[Contestants]:
    with Child("capture") as child:
        yield {
            _captured(shape, work, attached=attached): partial(
                child.ask,
                shape=shape,
                attached=attached,
                work=work,
                count=(_EACH if work.endswith("each") else _ROWS)[shape] // (2 if quick else 1),
            )
            for shape in _SHAPES
            for work in _CAPTURE_TARGETS
            for attached in (True, False)
        }


_MERGED = {
    ("insert", 1_000): ("changesets of 1,000 inserts", AtLeast(0.3)),
    ("insert", 10_000): ("changesets of 10,000 inserts", AtLeast(0.4)),
    ("update", 1_000): ("changesets of 1,000 updates", None),
    ("update", 10_000): ("changesets of 10,000 updates", None),
    ("insert", 1): ("one-row changesets, inserts", AtLeast(8_000)),
    ("update", 1): ("one-row changesets, updates", AtLeast(8_000)),
}
_MERGED_SHAPES = {"narrow": "no counter", "counter": "a counter", "wide": "100 columns"}


def merge(*, quick: bool) -> Benchmark:
    """Changesets of another node's, merged."""
    comparisons: list[Comparison] = []
    for shape in _MERGED_SHAPES:
        for (work, batch), (_, target) in _MERGED.items():
            if shape == "wide" and batch != 1_000:
                continue
            subject, plain, folding = (_merged(shape, work, batch, who) for who in ("merge", "plain", "fold"))
            if batch == 1:
                comparisons.append(Comparison(subject=subject, figure=WALL, target=target))
                comparisons.append(Comparison(subject=subject, figure=PROCESSOR))
                continue
            wanted = target if shape != "wide" else None
            comparisons.append(Comparison(subject=subject, baseline=plain, figure=WALL, target=wanted))
            comparisons.append(Comparison(subject=subject, baseline=plain, figure=PROCESSOR))
            comparisons.append(Comparison(subject=folding, baseline=plain, figure=PROCESSOR))
    return Benchmark(
        name="merge",
        title="Merging changesets, and writing the same rows plainly, as many in a transaction; files of equal size",
        rounds=3 if quick else 15,
        open=partial(_open_merge, quick),
        comparisons=tuple(comparisons),
    )


def _merged(shape: str, work: str, batch: int, who: str) -> str:
    said, _ = _MERGED[work, batch]
    match who:
        case "plain":
            return f"{_MERGED_SHAPES[shape]}, {work} by {batch:,}, plain"
        case "fold":
            return f"{_MERGED_SHAPES[shape]}, {said}: folding them"
        case _:
            return f"{_MERGED_SHAPES[shape]}, {said}"


@contextmanager
def _open_merge(quick: bool) -> Iterator[Contestants]:
    with Child("merge") as child:
        contestants: dict[str, Callable[[], Figures]] = {}
        for shape in _MERGED_SHAPES:
            for work, batch in _MERGED:
                if shape == "wide" and batch != 1_000:
                    continue
                count = {1: 1_024, 1_000: 5_000, 10_000: 10_000}[batch] // (2 if quick and batch < 10_000 else 1)
                together = " together" if batch == 1 else ""
                contestants[_merged(shape, work, batch, "fold")] = partial(
                    child.ask, shape=shape, who="fold", work=work, count=count, batch=batch
                )
                contestants[_merged(shape, work, batch, "merge")] = partial(
                    child.ask, shape=shape, who=f"merge{together}"
                )
                contestants[_merged(shape, work, batch, "plain")] = partial(child.ask, shape=shape, who="plain")
        yield contestants
