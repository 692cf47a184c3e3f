"""Up to where a restore goes: everything there is, a moment, or a position. Pure.

What a changeset depends on has smaller stamps than it has itself. So all that is stamped up to a moment is causally
whole, without anybody asking. Of a position that is true if it names every site, as those of nodes do. One that names
fewer (that of a write names its own site) says nothing of the others: they come as far as what is named depends on
them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from replication.backup.batches import Link
from replication.backup.manifests import Manifest
from replication.backup.moments import said
from replication.backup.names import Stretch
from replication.engine.stamps import STAMP_MAX, Site, Stamp, stamp_at
from replication.positions import Position


class Fit(Enum):
    """Whether a restore can begin with a snapshot. MORE: it has more than is wanted, but only of sites of which nothing
    was said."""

    YES = "yes"
    MORE = "more"
    NO = "no"


@dataclass(frozen=True, slots=True)
class AtMoment:
    """Everything stamped up to this millisecond since 1970; by whom does not matter."""

    ms: int

    def __str__(self) -> str:
        return said(self.ms)

    @property
    def limit(self) -> Stamp:
        """The last stamp of that millisecond."""
        return Stamp(stamp_at(self.ms + 1) - 1)

    def is_later_than(self, now_ms: int) -> bool:
        """Whether it has not come yet. Everything there is, is no moment."""
        return self != EVERYTHING and self.ms > now_ms

    def fits(self, snapshot: Manifest) -> Fit:
        """See Fit."""
        return Fit.YES if snapshot.clock <= self.limit and snapshot.from_ms <= self.ms else Fit.NO

    def takes(self, site: Site, link: Link) -> bool:
        """Whether the changeset is in it."""
        return link.upto <= self.limit

    def begins_before(self, stretch: Stretch) -> bool:
        """Whether something of an object is in it, for certain."""
        return stretch.first <= self.limit

    def ends_in(self, stretch: Stretch) -> bool:
        """Whether an object is the last one of its site that has to be read."""
        return stretch.last >= self.limit


@dataclass(frozen=True, slots=True)
class AtPosition:
    """Of each site whatever there is up to this stamp, and the changeset that the stamp is within, as whoever waits for
    a position waits for it. Of sites that the position does not name: nothing."""

    position: Position

    def __str__(self) -> str:
        return str(self.position)

    def fits(self, snapshot: Manifest) -> Fit:
        """See Fit."""
        stamps = self.position.stamps
        for site, stamp in stamps.items():
            head = snapshot.vector.get(site)
            if site in snapshot.closed or (head is not None and head.stamp > stamp):
                return Fit.NO
        return Fit.YES if stamps.keys() >= snapshot.vector.keys() else Fit.MORE

    def takes(self, site: Site, link: Link) -> bool:
        """Whether the changeset is in it."""
        stamp = self.position.stamps.get(site)
        return stamp is not None and link.after < stamp

    def begins_before(self, stretch: Stretch) -> bool:
        """Whether something of an object is in it, for certain."""
        stamp = self.position.stamps.get(stretch.site)
        return stamp is not None and stretch.first <= stamp

    def ends_in(self, stretch: Stretch) -> bool:
        """Whether an object is the last one of its site that has to be read."""
        stamp = self.position.stamps.get(stretch.site)
        return stamp is not None and stretch.last >= stamp

    def with_what_it_saw(self, seen: Mapping[Site, Stamp]) -> "AtPosition":
        """With the sites that it does not name, as far as what it names had seen of them."""
        unnamed = {site: stamp for site, stamp in seen.items() if site not in self.position.stamps}
        return AtPosition(Position({**self.position.stamps, **unnamed}))


type Cut = AtMoment | AtPosition

EVERYTHING: Final = AtMoment((STAMP_MAX >> 16) - 1)
