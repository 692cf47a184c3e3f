"""A hundred simulated clusters. `make sim` runs a thousand."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from replication.simulation.campaign import PATHS, REACHES_ALL_FROM, Campaign, Mode, Which, which_of
from replication.simulation.result import Result
from replication.simulation.scenario import run

SEEDS_PER_TEST = 10


@pytest.mark.parametrize("first", range(0, 100, SEEDS_PER_TEST))
def test_a_simulated_cluster_ends_equal_and_exact_whatever_happened(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        result = run(seed)
        assert not result.wrong, f"seed {seed}, see make sim SEED={seed}: {result.wrong}"


def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    def trace(hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "replication.simulation", "--seed", "14"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first = trace("1")
    assert len(first.splitlines()) > 200
    assert trace("2") == first


def test_a_campaign_fails_that_never_reached_something() -> None:
    campaign = Campaign()
    for seed in range(REACHES_ALL_FROM):
        campaign.add(Which(seed), _result(seed))
    assert campaign.missed() == list(PATHS)
    campaign.add(Which(0), replace(_result(0), reached=Counter(PATHS[1:])))
    assert campaign.missed() == [PATHS[0]]


def test_a_small_campaign_need_not_reach_everything() -> None:
    campaign = Campaign()
    campaign.add(Which(1), _result(1))
    assert campaign.missed() == []


def test_what_is_wrong_with_a_seed_fails_the_campaign() -> None:
    campaign = Campaign()
    campaign.add(Which(1), _result(1))
    campaign.add(Which(2, Mode.PRIMARY), _result(2, "a count is off"))
    assert campaign.failed == {Which(2, Mode.PRIMARY): ("a count is off",)}


def test_a_campaign_has_seeds_of_both_modes_and_says_how_to_see_one_again() -> None:
    wanted = which_of(range(10, 30), None)
    assert [which.seed for which in wanted if which.mode is Mode.CONVERGENT] == list(range(10, 30))
    assert [which.variables for which in wanted if which.mode is Mode.PRIMARY] == [
        "SEED=10 MODE=primary",
        "SEED=20 MODE=primary",
    ]
    assert which_of([4], Mode.PRIMARY) == [Which(4, Mode.PRIMARY)]


def _result(seed: int, *wrong: str) -> Result:
    return Result(seed=seed, wrong=wrong, reached=Counter(), trace=(), converged_s=0.0, virtual_s=0.0, steps=0)
