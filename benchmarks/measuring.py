"""Turn by turn, medians, ratios. Pure but for the measurements that it is given.

A comparison's ratio is the median of the ratios within each round, not the ratio of the medians: the two figures of one
round were measured within seconds of each other.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

type Figures = Mapping[str, float]
"""What one measurement gave: figure → value, its unit at the end of its name."""

type Contestants = Mapping[str, Callable[[], Figures]]
"""By name, in the order of their turns. Each call measures once."""

NOTHING_TO_COMPARE = ""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A target that is met by this or more."""

    bound: float

    def met(self, value: float) -> bool:
        """Whether `value` reaches it."""
        return value >= self.bound

    def __str__(self) -> str:
        return f"≥ {self.bound:g}"


@dataclass(frozen=True, slots=True)
class AtMost:
    """A target that is met by this or less."""

    bound: float

    def met(self, value: float) -> bool:
        """Whether `value` stays within it."""
        return value <= self.bound

    def __str__(self) -> str:
        return f"≤ {self.bound:g}"


type Target = AtLeast | AtMost


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One line of a benchmark's table: a figure of ours beside the same figure of a baseline.

    The target is one for the ratio; for the figure itself where there is no baseline.
    """

    subject: str
    figure: str
    baseline: str = NOTHING_TO_COMPARE
    target: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a comparison came to: medians over the rounds, and the ratio with the lowest and highest of a round."""

    comparison: Comparison
    value: float
    baseline_value: float | None = None
    ratio: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        target = self.comparison.target
        return None if target is None else target.met(self.value if self.ratio is None else self.ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A few contestants that are measured in turns, and what is compared of them."""

    name: str
    title: str
    rounds: int
    open: Callable[[], AbstractContextManager[Contestants]]
    """Starts the processes of the contestants, and ends them."""
    comparisons: tuple[Comparison, ...]
    warm_up: bool = True


def run(benchmark: Benchmark, measuring: Callable[[str, int], None]) -> list[Outcome]:
    """The outcomes of a benchmark, in the order of its comparisons.

    `measuring` is told whose turn it is, and in which round; round 0 warms up.
    """
    with benchmark.open() as contestants:
        rounds: list[dict[str, Figures]] = []
        for number in range(0 if benchmark.warm_up else 1, benchmark.rounds + 1):
            results: dict[str, Figures] = {}
            for name, measure in contestants.items():
                measuring(name, number)
                results[name] = measure()
            if number:
                rounds.append(results)
    return [compared(comparison, rounds) for comparison in benchmark.comparisons]


def compared(comparison: Comparison, rounds: Iterable[Mapping[str, Figures]]) -> Outcome:
    """The outcome of one comparison over the rounds, each of them contestant → figures."""
    rounds = list(rounds)
    values = [results[comparison.subject][comparison.figure] for results in rounds]
    if comparison.baseline == NOTHING_TO_COMPARE:
        return Outcome(comparison=comparison, value=median(values))
    baseline_values = [results[comparison.baseline][comparison.figure] for results in rounds]
    ratios = [value / baseline for value, baseline in zip(values, baseline_values, strict=True)]
    return Outcome(
        comparison=comparison,
        value=median(values),
        baseline_value=median(baseline_values),
        ratio=median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
    )
