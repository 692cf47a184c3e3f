"""Before the first fold: does anybody know more of this node's site than its own database does? Pure."""

from collections.abc import Mapping

from replication.convergent.messages import Heads
from replication.convergent.store import View


def older_than_peers_know(view: View, peers: Mapping[str, Heads]) -> str:
    """What shows that this database is an older state of itself; "" if nothing does.

    Merged or only held: a peer that has a changeset of this site that this database has not written has it from a later
    state of it, and what is written here now must not be stamped as if that had never been."""
    if view.site in view.closed:
        return ""  # set aside: it will get a new one
    own = view.vector.get(view.site)
    for peer, heads in peers.items():
        known = heads.vector.get(view.site)
        if known is not None and (own is None or known.stamp > own.stamp):
            return f"{peer} has more of site {view.site} than this database has written"
        if known is not None and own is not None and known.stamp == own.stamp and known.digest != own.digest:
            return f"{peer} has another history of site {view.site}"
        if any(site == view.site and (own is None or stamp > own.stamp) for site, stamp in heads.held):
            return f"{peer} holds changesets of site {view.site} that this database has not written"
        if view.site in heads.closed:
            return f"{peer} closed site {view.site}"
    return ""
