"""Closing a site that was forked: two databases stamped different things under it, so two histories of it are about.

Nothing tells which of them is right, and neither is wrong: both hold what somebody wrote. So nothing more is accepted
from the site, by anybody; whoever wrote under it goes on under a new one; and its head proves nothing from then on: not
that a row whose insert it covers was deleted, not that a changeset which depends on it can be merged without loss.

What can be compared instead are its **tips**: the ends of the histories that are merged here, the own head first. Nodes
whose tips differ exchange their whole state, which loses nothing, since merging state is idempotent; then they unite
their tips. Closed sites are equal on two nodes if the tips are.

A site whose node is **forgotten**, gone for good, is closed as well, with a tip that stands for no history: nothing
more comes from it, and whoever writes under it has to stop. Everybody had heard of it by then what was to be heard, so
where its tips are the same on two nodes its head does prove something.

Who has a closed site says so in the next own changeset, by a dep that nobody covers (`ALL_BRANCHES`). A node that has
not heard of it closes the site then, and does not take the changeset for one whose deps it covers."""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Set
from typing import Final

from replication.engine import generation, state
from replication.engine.changesets import DIGEST_BYTES
from replication.engine.identity import Remembered, check_remembered
from replication.engine.session import open_session
from replication.engine.sites import Head
from replication.engine.sites import closed as closed
from replication.engine.stamps import STAMP_MAX, Site, Stamp, is_baseline
from replication.engine.transacting import transaction

FORGOTTEN: Final = Head(stamp=STAMP_MAX, digest=b"forgotten".ljust(DIGEST_BYTES, b"\0"))
"""The tip of a site whose node is gone for good."""


def branches(tips: Set[Head]) -> Set[Head]:
    """The tips that stand for a history."""
    return tips - {FORGOTTEN}


def frozen(mine: Mapping[Site, Set[Head]], theirs: Mapping[Site, Set[Head]]) -> dict[Site, Stamp]:
    """Closed sites whose heads prove as much as those of any other: forgotten, with one history, of which nothing is
    merged here that they have not. Gives their heads."""
    found: dict[Site, Stamp] = {}
    for site, told in theirs.items():
        tips = mine.get(site)  # None: it is not closed here yet
        if FORGOTTEN in told and len(told) == 2 and (tips is None or (FORGOTTEN in tips and tips <= told)):
            found[site] = min(tip.stamp for tip in told)
    return found


def forget_site(
    connection: sqlite3.Connection,
    site: Site,
    told: Set[Head] | None = None,
    *,
    expected: Remembered | None = None,
) -> None:
    """Closes the site of a node that is gone for good, as somebody did who has these tips; None: as the first. Commits.

    What is merged here of a history that others have merged further is no history of its own: it is no tip then, and
    their state is fetched. Raises NotAttached, StateReplaced, and sqlite3.OperationalError (the lock, the disk)."""
    with transaction(connection):
        check_remembered(connection, expected)
        sites = open_session(connection).sites
        head = sites.head(site)
        if sites.is_closed(site) or told is None or head in told:
            sites.close(site, {FORGOTTEN, *(told or ())})
        else:
            sites.set_aside(site, {FORGOTTEN})
        generation.advance(connection)  # as in `close_site`


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
        session.sites.close(site, [*tips, *session.sites.part(site, session.site)])
        generation.advance(connection)  # what is left of it will come as state
        if site == session.site:
            state.write_site(connection, new_site())
        return True


def keep_parts(connection: sqlite3.Connection, site: Site, *, expected: Remembered | None = None) -> None:
    """The rest of a closed site's histories, of which a part was merged here, will never come: nobody has them any
    more. The part becomes a history of its own, so that the others fetch it. Commits. Raises as `close_site` does."""
    with transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        if session.sites.is_closed(site):
            session.sites.close(site, session.sites.part(site, session.site))
            session.sites.forget_parts(site)


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
