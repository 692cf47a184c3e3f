"""Random tests from seeds: a campaign runs more of them, and whatever fails says which seed shows it again."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

# Read when this file is: in a test, no LITECAST_ variable of the desk is left.
SEED = os.environ.get("LITECAST_SEED")
"""The only seed to be run, where one is to be seen again."""
_CAMPAIGN = os.environ.get("LITECAST_CAMPAIGN")


def runs(usual: int) -> int:
    """How many seeds a test runs: `usual`, or as many as the campaign wants."""
    return usual if _CAMPAIGN is None else int(_CAMPAIGN)


def in_chunks(chunks: int) -> pytest.MarkDecorator:
    """Runs a test once for each `chunk` of the seeds."""
    return pytest.mark.parametrize("chunk", range(chunks) if SEED is None else [0])


def seeds(count: int, *, chunk: int = 0, chunks: int = 1) -> Sequence[int]:
    """Those below `count` that belong to a chunk."""
    return range(chunk, count, chunks) if SEED is None else [int(SEED)]


@contextmanager
def noted(seed: int, file: str, trace: Sequence[str] = ()) -> Iterator[None]:
    """A failure says what happened, and how to have it again."""
    try:
        yield
    except BaseException as error:
        if trace:
            error.add_note("\n".join(trace))
        error.add_note(f"replay: LITECAST_SEED={seed} pytest {file}")
        raise
