"""What nodes tell each other of the backup, so that each knows what is in the bucket without asking the bucket. Pure.

    ["backup", site, works, snapshot, [[site, stamp], ...]]

The sender's site; whether its uploads work; the number of the newest snapshot, 0 if there is none; and how far sites
are in the bucket.

    ["backup?"]

Asks for that, with all sites."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from replication.backup.names import NUMBER_MAX
from replication.engine import received
from replication.engine.received import Malformed
from replication.engine.stamps import STAMP_MAX, Site, Stamp

BACKUP: Final = "Backup"
"""The actor's name on every node that has a backup."""
ASKED: Final = ["backup?"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """See the module."""

    site: Site
    works: bool
    snapshot: int
    uploaded: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])

    def plain(self) -> list[Any]:
        """As it is cast."""
        stamps = [[site, stamp] for site, stamp in self.uploaded.items()]
        return ["backup", self.site, self.works, self.snapshot, stamps]


def parse(message: object) -> Said:
    """What a peer said. Raises Malformed."""
    found = received.listed(message, at_most=5)
    if len(found) != 5 or found[0] != "backup":
        raise Malformed("not a word on the backup")
    _, site, works, snapshot, stamps = found
    return Said(
        site=received.site(site),
        works=received.flag(works),
        snapshot=received.whole(snapshot, low=0, high=NUMBER_MAX),
        uploaded=dict(_reached(one) for one in received.listed(stamps, at_most=received.SITES_MAX)),
    )


def _reached(value: object) -> tuple[Site, Stamp]:
    found = received.listed(value, at_most=2)
    if len(found) != 2:
        raise Malformed("not a site and its stamp")
    return received.site(found[0]), Stamp(received.whole(found[1], low=0, high=STAMP_MAX))
