"""Closing a site that was forked: two databases stamped different things under it, so two histories of it are about.

Nothing tells which of them is right, and neither is wrong: both hold what somebody wrote. So nothing more is accepted
from the site, by anybody; whoever wrote under it goes on under a new one; and its head proves nothing from then on: not
that a row whose insert it covers was deleted, not that a changeset which depends on it can be merged without loss.

What can be compared instead are its **tips**: the ends of the histories that are merged here, the own head first. Nodes
whose tips differ exchange their whole state, which loses nothing, since merging state is idempotent; then they unite
their tips. Closed sites are equal on two nodes if the tips are.

Who has a closed site says so in the next own changeset, by a dep that nobody covers (`ALL_BRANCHES`). A node that has
not heard of it closes the site then, and does not take the changeset for one whose deps it covers."""

import sqlite3
from collections.abc import Callable, Collection, Mapping

from replication.engine import generation, state
from replication.engine.changesets import digest
from replication.engine.identity import Remembered, check_remembered
from replication.engine.session import open_session
from replication.engine.sites import Head
from replication.engine.sites import closed as closed
from replication.engine.stamps import Site, is_baseline
from replication.engine.transacting import transaction


def close_site(
    connection: sqlite3.Connection,
    site: Site,
    tips: Collection[Head] = (),
    *,
    new_site: Callable[[], Site],
    expected: Remembered | None = None,
) -> bool:
    """Closes a site; False, with nothing changed, if it was closed before, or is a baseline's. Commits.

    `tips` are ends of histories whose state is merged here, beside the one that ends at the own head. If it is the own
    site, the database goes on under `new_site()`, and what waits in the log is stamped under that. Raises NotAttached
    StateReplaced if the state is not as `expected`, and sqlite3.OperationalError (the lock, the disk), with nothing
    changed."""
    with transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        if session.sites.is_closed(site) or is_baseline(site):
            return False
        parts = [_part(head, session.site) for head in session.sites.seen(site)]
        session.sites.close(site, [*tips, *parts])
        generation.advance(connection)  # what is left of it will come as state
        if site == session.site:
            state.write_site(connection, new_site())
        return True


def _part(head: Head, own: Site) -> Head:
    """The tip of a history of which a part is merged here, as somebody's state: one that only this node has, so that
    the others fetch what it has of it, and it what they have."""
    return Head(stamp=head.stamp, digest=digest(head.digest + own.encode()))


def unite_tips(
    connection: sqlite3.Connection, tips: Mapping[Site, Collection[Head]], *, expected: Remembered | None = None
) -> None:
    """The whole state of somebody who had merged these histories of closed sites is merged here. Commits.

    Sites that are not closed here are left alone. Raises as `close_site` does."""
    with transaction(connection):
        check_remembered(connection, expected)
        sites = open_session(connection).sites
        for site, more in tips.items():
            if sites.is_closed(site):
                sites.close(site, more)
