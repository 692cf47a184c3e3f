"""Trimming, on the engine's connection: what the journal need not keep, and tombstones that nobody needs any more."""

from collections.abc import Collection, Mapping, Sequence

from replication.convergent.messages import Vector
from replication.convergent.store import Store
from replication.engine.stamps import Site, Stamp
from replication.engine.trimming import trim_journal, trim_tombstones


def trim(
    store: Store,
    pinned: Mapping[Site, Stamp] | None,
    members: Sequence[Vector] | None,
    settled: Collection[Site] = (),
    *,
    clock_ms: int,
) -> tuple[int, int]:
    """Trims the journal and, with what all members have, tombstones: how many of each. `settled`: closed sites of
    which all members merged the same branches. `clock_ms`: what the slowest of all members' clocks shows. By that a
    tombstone has to be old, so that who still has it knows that others may have trimmed it."""
    settings = store.settings
    now_ms = settings.now_ms()
    changesets = trim_journal(
        store.connection,
        now_ms=now_ms,
        max_age_ms=settings.journal_max_age_ms,
        max_bytes=settings.journal_max_bytes,
        pinned=pinned,
    )
    tombstones = 0
    if members is not None and pinned is None:  # no delete may be in a journal whose tombstone is gone
        tombstones = trim_tombstones(
            store.connection,
            members=members,
            settled=settled,
            min_age_ms=settings.journal_max_age_ms,
            now_ms=min(now_ms, clock_ms),
        )
    return changesets, tombstones
