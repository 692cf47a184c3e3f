"""What a node does about the backup now, from what it knows. Pure.

**Who uploads which site.** Each node its own. What is of nobody who is up and says that his uploads work (a node that
died, a former site, rows that were there before they were attached) is uploaded by one of the others: of all whose
uploads work the one with the smallest name. It need not be certain: two that upload the same do no harm.

**What counts as in the bucket.** A changeset can be restored only with all that it depends on, which others may have
to upload. What a changeset depends on has smaller stamps than it has itself. So if everything that is known here and
not in the bucket is stamped after some moment, then all that is stamped up to that moment is in the bucket, and so is
all that it depends on."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final

from replication.backup.manifests import Manifest
from replication.engine.sites import Head
from replication.engine.stamps import STAMP_MAX, Site, Stamp, first_after

ORPHAN_S: Final = 3.0
"""For so long a site's node must have been away, or without success, before another one uploads for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a peer that is up said. `works`: whether its last upload, or look at the bucket, was a success."""

    site: Site
    works: bool


def takes_care(name: str, peers: Mapping[str, Peer]) -> bool:
    """Whether it is this node that does what one has to do. Its own uploads work."""
    return name <= min((peer for peer, said in peers.items() if said.works), default=name)


def orphans(heads: Mapping[Site, Stamp], own: Site, peers: Mapping[str, Peer]) -> set[Site]:
    """The sites for which nobody uploads by himself."""
    cared_for = {own} | {peer.site for peer in peers.values() if peer.works}
    return set(heads) - cared_for


def to_upload(
    heads: Mapping[Site, Stamp],
    uploaded: Mapping[Site, Stamp],
    *,
    own: Site,
    adopted: set[Site],
) -> list[Site]:
    """The sites of which this node uploads something now, its own first. `adopted`: orphans that fall to it."""
    mine = [own, *sorted(adopted - {own})]
    return [site for site in mine if site in heads and heads[site] > uploaded.get(site, first_after(site))]


def frontier(first_lacking: Mapping[Site, Stamp]) -> Stamp:
    """Everything known here up to this stamp is in the bucket. `first_lacking`: what each site lacks there first."""
    return Stamp(min(first_lacking.values(), default=STAMP_MAX + 1) - 1)


def safe(
    before: Mapping[Site, Stamp],
    heads: Mapping[Site, Stamp],
    limit: Stamp,
    last_upto: Mapping[Site, Stamp],
) -> dict[Site, Stamp]:
    """How far each site comes back, with all that it depends on. What once did still does.

    `limit`: the frontier. `last_upto`: of sites whose head is beyond it, the last changeset that is not."""
    found = dict(before)
    for site, head in heads.items():
        at = head if head <= limit else last_upto.get(site, first_after(site))
        if at > found.get(site, first_after(site)):
            found[site] = at
    return found


def why_snapshot(
    newest: Manifest,
    *,
    vector: Mapping[Site, Head],
    closed: Mapping[Site, frozenset[Head]],
    schemas: Mapping[str, str],
    beyond_journal: bool = False,
    is_due: bool = False,
) -> str:
    """Why another snapshot has to be made; "" if none has to. `is_due`: so much time has passed since the newest one;
    if nothing was written since, that is no reason."""
    if not has_closed(newest, closed):
        return "the histories of a site have come apart, and are one again by state alone"
    if dict(schemas) != dict(newest.schemas):
        return "the tables are other ones"
    if beyond_journal:
        return "the journal has lost what is not in the bucket"
    if is_due and any(site not in newest.vector or newest.vector[site].stamp < at.stamp for site, at in vector.items()):
        return "it is time for the next one"
    return ""


def has_closed(newest: Manifest | None, closed: Mapping[Site, frozenset[Head]]) -> bool:
    """Whether a snapshot has all that sites wrote whose histories came apart: no changeset brings that."""
    return newest is not None and all(newest.closed.get(site) == tips for site, tips in closed.items())


def is_related(newest: Manifest | None, known: set[Site]) -> bool:
    """Whether the database and the backup are of one history, as far as can be seen."""
    return newest is None or not known or not known.isdisjoint({*newest.vector, *newest.closed})


def includes(heads: Mapping[Site, Stamp], closed: Set[Site], newest: Manifest | None) -> bool:
    """Whether a database has all that the newest snapshot has, so that a copy of it may follow that one."""
    return newest is None or not lacks(heads, closed, newest)


def lacks(heads: Mapping[Site, Stamp], closed: Set[Site], newest: Manifest) -> list[Site]:
    """The sites of which a snapshot has something that a database has not."""
    apart = newest.closed.keys() - closed
    behind = {
        site
        for site, head in newest.vector.items()
        if site not in closed and heads.get(site, first_after(site)) < head.stamp
    }
    return sorted(apart | behind)
