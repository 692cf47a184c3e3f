"""The outcomes as tables for people and as one JSON object for programs."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from benchmarks.measuring import Benchmark, Outcome

_UNITS = {
    "casts_per_s": "/s",
    "added_us": "µs",
    "p50_us": "µs",
    "p99_us": "µs",
    "rows_per_s": "/s",
    "rows_per_cpu_s": "/s",
    "core_percent": "% of a core",
    "written_bytes": "B",
    "p50_ms": "ms",
    "p99_ms": "ms",
    "commits_per_s": "/s",
    "writes_per_s": "/s",
    "seconds": "s",
    "cpu_us": "µs",
    "used_bytes": "B",
    "bucket_bytes": "B",
}
_LABELS = {
    "casts_per_s": "rate",
    "added_us": "p50 of what is added",
    "p50_us": "p50",
    "p99_us": "p99",
    "rows_per_s": "rate",
    "rows_per_cpu_s": "rate by processor time",
    "core_percent": "time",
    "written_bytes": "written to disk",
    "p50_ms": "p50",
    "p99_ms": "p99",
    "commits_per_s": "rate",
    "writes_per_s": "rate",
    "seconds": "time",
    "cpu_us": "processor time",
    "used_bytes": "in use",
    "bucket_bytes": "in the bucket",
}


def table(benchmark: Benchmark, outcomes: Iterable[Outcome]) -> Table:
    """One line per comparison."""
    drawn = Table(title=benchmark.title, title_justify="left", box=box.SIMPLE_HEAD)
    drawn.add_column("ours")
    drawn.add_column("")
    drawn.add_column("median", justify="right")
    drawn.add_column("beside")
    drawn.add_column("median", justify="right")
    drawn.add_column("ratio (rounds)", justify="right")
    drawn.add_column("target", justify="right")
    for outcome in outcomes:
        comparison = outcome.comparison
        drawn.add_row(
            comparison.subject,
            _LABELS[comparison.figure],
            _shown(outcome.value, comparison.figure),
            comparison.baseline,
            "" if outcome.baseline_value is None else _shown(outcome.baseline_value, comparison.figure),
            _ratio(outcome),
            _verdict(outcome),
        )
    return drawn


def _shown(value: float, figure: str) -> str:
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {_UNITS[figure]}"


def _ratio(outcome: Outcome) -> str:
    if outcome.ratio is None:
        return ""
    return f"{outcome.ratio:.2f} ({outcome.ratio_min:.2f}-{outcome.ratio_max:.2f})"


def _verdict(outcome: Outcome) -> Text:
    if outcome.met is None:
        return Text("")
    return Text(
        f"{outcome.comparison.target} " + ("met" if outcome.met else "missed"), "green" if outcome.met else "red"
    )


def as_json(machine: Mapping[str, str], results: Mapping[str, Iterable[Outcome]]) -> dict[str, Any]:
    """`{"machine": ..., "benchmarks": {name: [one object per comparison]}}`."""
    return {
        "machine": dict(machine),
        "benchmarks": {
            name: [
                {
                    "subject": outcome.comparison.subject,
                    "figure": outcome.comparison.figure,
                    "median": outcome.value,
                    "baseline": outcome.comparison.baseline or None,
                    "baseline_median": outcome.baseline_value,
                    "ratio": outcome.ratio,
                    "ratio_min": outcome.ratio_min,
                    "ratio_max": outcome.ratio_max,
                    "target": None if outcome.comparison.target is None else str(outcome.comparison.target),
                    "met": outcome.met,
                }
                for outcome in outcomes
            ]
            for name, outcomes in results.items()
        },
    }
