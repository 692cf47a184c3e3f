"""What replicas say of each other's rows, and damage that nobody captured."""

import random
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from replication.engine.comparing import Comparison, Verdict, compare
from replication.engine.digesting import attached_tables, digest
from replication.engine.digests import BUCKETS, Digest
from replication.engine.stamps import Site, Stamp
from tests.support.replicas import Replica


def covered_by_all(members: Sequence[Replica]) -> dict[Site, Stamp]:
    """Up to where everybody has merged each site."""
    vectors = [member.heads() for member in members]
    everywhere = set(vectors[0]).intersection(*vectors)
    return {site: Stamp(min(vector[site].stamp for vector in vectors)) for site in everywhere}


def digest_of(member: Replica, *, covered: Mapping[Site, Stamp] | None = None, buckets_max: int = BUCKETS) -> Digest:
    """All attached tables of one replica, as another one receives it."""
    found = digest(member.engine, attached_tables(member.engine), covered=covered, buckets_max=buckets_max)
    return Digest.joined([Digest.parse(piece.plain()) for piece in found.pieces()])


def compared(members: Sequence[Replica], *, buckets_max: int = BUCKETS) -> Comparison:
    """What the replicas hold, as it is now."""
    covered = covered_by_all(members)
    return compare(
        {str(at): digest_of(one, covered=covered, buckets_max=buckets_max) for at, one in enumerate(members)}
    )


class Watch:
    """Somebody who compares replicas all the while that they are written to, by digests that are not of one moment."""

    def __init__(self, rng: random.Random, members: Sequence[Replica]) -> None:
        self._rng = rng
        self._members = members
        self._digests: dict[str, Digest] = {}
        self.verdicts: list[Verdict] = []

    def look(self) -> None:
        """Takes some digests, and compares them with what is known of the others."""
        buckets_max = self._rng.choice((1, 4, 32, BUCKETS))
        anew = self._rng.random() < 0.5
        covered = covered_by_all(self._members) if anew else None
        for at, member in enumerate(self._members):
            if anew or str(at) not in self._digests or self._rng.random() < 0.5:
                self._digests[str(at)] = digest_of(member, covered=covered, buckets_max=buckets_max)
        found = compare(self._digests)
        self.verdicts.append(found.verdict)
        assert found.verdict is not Verdict.DRIFT, found


@contextmanager
def uncaptured(connection: sqlite3.Connection) -> Iterator[None]:
    """What is written within is in no log."""
    enabled = sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER
    before = connection.getconfig(enabled)
    connection.setconfig(enabled, False)
    try:
        yield
    finally:
        connection.setconfig(enabled, before)
