"""Turns, medians, and ratios within a round."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.measuring import AtLeast, AtMost, Benchmark, Comparison, Contestants, Figures, compared, run
from benchmarks.report import as_json

RATE = "casts_per_s"


def rounds(*pairs: tuple[float, float]) -> list[dict[str, Figures]]:
    return [{"ours": {RATE: ours}, "bare": {RATE: bare}} for ours, bare in pairs]


def test_ratio_is_the_median_of_the_ratios_within_each_round() -> None:
    comparison = Comparison(subject="ours", baseline="bare", figure=RATE)
    # The machine was twice as fast in the second round, and something else ran beside our third turn.
    outcome = compared(comparison, rounds((50, 100), (100, 200), (20, 100)))
    assert (outcome.value, outcome.baseline_value) == (50, 100)
    assert (outcome.ratio, outcome.ratio_min, outcome.ratio_max) == (0.5, 0.2, 0.5)
    assert outcome.met is None


@pytest.mark.parametrize(("target", "met"), [(AtLeast(0.5), True), (AtLeast(0.51), False), (AtMost(0.5), True)])
def test_target_is_one_for_the_ratio(target: AtLeast | AtMost, met: bool) -> None:
    comparison = Comparison(subject="ours", baseline="bare", figure=RATE, target=target)
    assert compared(comparison, rounds((50, 100))).met is met


@pytest.mark.parametrize(("target", "met"), [(AtMost(1.0), True), (AtMost(0.5), False)])
def test_target_is_one_for_the_figure_where_there_is_no_baseline(target: AtMost, met: bool) -> None:
    outcome = compared(Comparison(subject="ours", figure=RATE, target=target), rounds((0.7, 1)))
    assert (outcome.value, outcome.ratio, outcome.met) == (0.7, None, met)


@pytest.mark.parametrize("warm_up", [True, False])
def test_contestants_take_turns_and_the_first_round_only_warms_up(warm_up: bool) -> None:
    turns: list[str] = []
    told: list[tuple[str, int]] = []
    figures = iter([9.0, 9.0, 1.0, 2.0, 1.0, 2.0] if warm_up else [1.0, 2.0, 1.0, 2.0])

    def measure(name: str) -> Figures:
        turns.append(name)
        return {RATE: next(figures)}

    @contextmanager
    def contestants() -> Iterator[Contestants]:
        yield {"ours": lambda: measure("ours"), "bare": lambda: measure("bare")}
        turns.append("ended")

    benchmark = Benchmark(
        name="test",
        title="",
        rounds=2,
        open=contestants,
        comparisons=(Comparison(subject="ours", baseline="bare", figure=RATE),),
        warm_up=warm_up,
    )
    (outcome,) = run(benchmark, lambda who, number: told.append((who, number)))
    assert turns == ["ours", "bare"] * (3 if warm_up else 2) + ["ended"]
    assert told[0] == ("ours", 0 if warm_up else 1)
    assert told[-1] == ("bare", 2)
    assert outcome.ratio == 0.5
    (shown,) = as_json({}, {"test": [outcome]})["benchmarks"]["test"]
    assert (shown["median"], shown["baseline_median"], shown["ratio"]) == (1.0, 2.0, 0.5)
