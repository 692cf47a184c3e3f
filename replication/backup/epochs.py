"""Up to where a site counts in mode primary: where the next epoch began. Pure.

A node that did not know that another one had become the primary may have gone on, and uploaded what it wrote: a tail.
An epoch's first changeset names what its node had merged then; of older epochs nothing beyond that is merged."""

from collections.abc import Iterable, Mapping

from replication.engine.changesets import decode_head
from replication.engine.epochs import is_over
from replication.engine.stamps import Site, Stamp, first_after


def ends_of_epochs(first: Mapping[Site, bytes], sites: Iterable[Site]) -> dict[Site, Stamp]:
    """Up to which stamp these sites count, those that end. `first`: the first changesets of epochs."""
    began = {site: decode_head(encoded).deps for site, encoded in first.items()}
    found: dict[Site, Stamp] = {}
    for site in sites:
        later = [deps.get(site, first_after(site)) for one, deps in began.items() if is_over(site, one)]
        if later:
            found[site] = min(later)
    return found
