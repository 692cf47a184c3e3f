"""Closing a site that was forked: two databases stamped different things under it, with the same stamps.

Nothing tells which of two branches is right, and neither is: both hold what somebody wrote. So nothing more is accepted
from the site, by anybody, and its head proves nothing from then on. What becomes comparable instead are its **tips**:
the ends of the branches whose state was merged here. Nodes whose tips differ exchange their whole state, which loses
nothing, since merging state is idempotent; then they unite their tips. Whoever wrote under the site goes on under a new
one, whose first changeset names all that it has seen."""

import sqlite3
from collections.abc import Callable, Collection, Mapping

from replication.engine import state
from replication.engine.session import open_session
from replication.engine.sites import Head, Sites, closed
from replication.engine.stamps import Site
from replication.engine.transacting import transaction


def close_site(
    connection: sqlite3.Connection, site: Site, tips: Collection[Head], *, new_site: Callable[[], Site]
) -> bool:
    """Closes a site; False, with nothing changed, if it was closed before. Commits.

    If it is the own one, the database goes on under `new_site()`, and what waits in the log is stamped under that.
    Raises NotAttached and sqlite3.OperationalError (the lock, the disk)."""
    with transaction(connection):
        session = open_session(connection)
        if session.sites.is_closed(site):
            return False
        session.sites.close(site, tips)
        if site == session.site:
            state.write_site(connection, new_site())
        return True


def unite_tips(connection: sqlite3.Connection, tips: Mapping[Site, Collection[Head]]) -> None:
    """The state of somebody who had merged these branches of closed sites was merged here. Commits.

    Sites that are not closed here are left alone. Raises as `close_site` does."""
    with transaction(connection):
        known = closed(connection)
        sites = Sites(connection)
        for site, more in tips.items():
            if site in known and not known[site] >= frozenset(more):
                sites.close(site, known[site] | frozenset(more))
