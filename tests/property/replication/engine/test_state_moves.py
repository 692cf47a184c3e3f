"""Replicas between which state moves at any moment end equal and exact; see `roaming`.

A failing run prints its seed; `LITECAST_SEED=n` replays it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.support.replicas import fast_folder
from tests.support.roaming import Roaming

# Read when this file is: in a test, no LITECAST_ variable of the desk is left.
RUNS = int(os.environ.get("LITECAST_CAMPAIGN", "45"))
SEED = os.environ.get("LITECAST_SEED")
CHUNKS = 5

in_chunks = pytest.mark.parametrize("chunk", range(CHUNKS) if SEED is None else [0])


def seeds(chunk: int) -> Sequence[int]:
    return range(chunk, RUNS, CHUNKS) if SEED is None else [int(SEED)]


@contextmanager
def noted(seed: int) -> Iterator[None]:
    """A failure says how to have it again."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"replay: LITECAST_SEED={seed} pytest {__file__}")
        raise


@pytest.mark.timeout(60 + RUNS)
@in_chunks
def test_replicas_that_take_each_others_state_end_equal_and_exact(chunk: int) -> None:
    for seed in seeds(chunk):
        with fast_folder() as folder, noted(seed), Roaming(seed, folder) as roaming:
            roaming.play(roaming.rng.choice((60, 120)), deletes=seed % 4 > 0)
            roaming.check()


@pytest.mark.timeout(60 + RUNS)
@in_chunks
def test_replicas_that_are_put_back_to_older_states_end_equal(chunk: int) -> None:
    for seed in seeds(chunk):
        with fast_folder() as folder, noted(seed), Roaming(seed, folder, forks=True, trims=seed % 2 > 0) as roaming:
            roaming.play(roaming.rng.choice((60, 120)), deletes=seed % 4 > 0)
            roaming.check()
