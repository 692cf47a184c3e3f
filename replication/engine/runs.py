"""Which run of a node wrote which part of a site's chain: it tells two histories of a site apart where no journal does.

Nodes do not compare whole chains. They compare ends, and an end that is behind the own one is, if all is well, a place
that the own chain went through long ago. As long as the journal reaches back to there, it shows whether it did. Then
the changesets are trimmed, and of a hash alone nobody can say whether it was ever followed by another.

What stays is who wrote. **Within one run a site's chain does not fork**: the process stamps a changeset after the one
before it, and notices before each transaction if somebody put another state under it (see `identity`). Two histories
part where two runs went on from one place, or where a run went on from an older state than the last one left. So each
changeset names its run, and with each site is kept where in its chain each run began: some twenty bytes for each start
of a node that wrote anything. This is what timelines are to PostgreSQL, and leader epochs to Kafka (KIP-101).

A head, with its run, is then proven to be of a chain, or of another one: if the chain has the run, and the head's stamp
lies in the run's part of it, then the run's changesets up to there are in both, and through their hashes all that came
before. If the chain goes beyond the stamp without that, it is another history. Only of a run that begins beyond the
chain's end can the chain say nothing; who has the longer chain can.

Pure."""

import hashlib
from enum import Enum, auto
from typing import Final, NamedTuple

from replication.engine.stamps import Stamp

RUN_BYTES: Final = 8
UNKNOWN: Final = b""
"""The run of a changeset that was made before they named any, and of baselines."""
RUNS_MAX: Final = 1_000
"""So many are kept of a site, the last ones. What is older is taken for another history: that closes the site, loses
nothing, and heals. A node that starts each day and stays away for three years meets it."""


class Began(NamedTuple):
    """A run of a site, and where in the site's chain it began: behind which stamp."""

    run: bytes
    after: Stamp


type Runs = tuple[Began, ...]
"""The runs that wrote a chain, in their order. Each one's part ends where the next one's begins."""


class Place(Enum):
    """Where a head is, as a chain sees it."""

    WITHIN = auto()
    """The chain went through it, or ends there."""
    AHEAD = auto()
    """It is of the chain's last run, further on: it went through the chain's end."""
    ELSEWHERE = auto()
    """It is of another history."""
    UNTOLD = auto()
    """It is beyond the chain's end, of a run that the chain does not have."""


def run_of(nonce: bytes) -> bytes:
    """The name of the run that has this nonce."""
    return hashlib.blake2b(nonce, digest_size=RUN_BYTES).digest()


def place_of(runs: Runs, end: Stamp, *, stamp: Stamp, run: bytes) -> Place:
    """Where the head `stamp` of a run is, as the chain sees it that these runs wrote, and that ends at `end`."""
    if stamp <= end:
        there = next((began for began in reversed(runs) if began.after < stamp), None)
        return Place.WITHIN if there is not None and there.run == run else Place.ELSEWHERE
    if runs and runs[-1].run == run:
        return Place.AHEAD
    has_ended = run != UNKNOWN and any(began.run == run for began in runs)
    return Place.ELSEWHERE if has_ended else Place.UNTOLD


def following(runs: Runs, began: Began) -> Runs:
    """The chain goes on with another run. The oldest make room."""
    return (*runs, began)[-RUNS_MAX:]
