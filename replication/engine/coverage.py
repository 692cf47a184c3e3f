"""How far each site is merged on a node, so that what was written can be told from what is not there yet.

A closed site has no place in a vector: two histories are about under its name, and a stamp does not say of which.
There it is told by its tips. Where they are the same, the same was merged."""

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from replication.engine.sites import closed, stamps_of, vector
from replication.engine.stamps import Site, Stamp, is_baseline

TIPS_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """See the module. `closed`: the hash of each closed site's tips."""

    vector: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    closed: Mapping[Site, bytes] = field(default_factory=dict[Site, bytes])

    def has(self, site: Site, stamp: Stamp, *, of: "Coverage") -> bool:
        """True if what the site wrote up to `stamp` is merged here, as it is on the node whose coverage is `of`."""
        if site in self.closed or site in of.closed:
            return self.closed.get(site) == of.closed.get(site)
        return self.vector.get(site, Stamp(-1)) >= stamp

    def same_baselines(self, other: "Coverage") -> bool:
        """True if the same is merged of what databases held before they were attached."""
        mine, theirs = ({site for site in one.vector if is_baseline(site)} for one in (self, other))
        return mine == theirs


def coverage(connection: sqlite3.Connection) -> Coverage:
    """Of a database of which something is attached, in the transaction at work."""
    return Coverage(
        vector=stamps_of(vector(connection)),
        closed={
            site: _hash(b"".join(sorted(tip.stamp.to_bytes(8, "big", signed=True) + tip.digest for tip in tips)))
            for site, tips in closed(connection).items()
        },
    )


def _hash(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=TIPS_BYTES).digest()
