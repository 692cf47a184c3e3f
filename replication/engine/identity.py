"""Whether the database is still the one that it was: a (site, stamp) is never used for two contents.

A file can be copied, put back from a backup, or exchanged under a running node, and nothing in it tells: the copy goes
on under the same site, stamps other things with the stamps that were used already, and every node that has the first
ones takes the second ones for known. So two things are kept where no copy of the file takes them along:

- In `data_dir`, a nonce that is new at each start, and stands in the database as well. A database whose nonce is not
  the one of the last start here is a copy, or an older state, and goes on under a new site. So does a database whose
  nonce nobody remembers: for a site that never wrote anything, a new one costs nothing.
- In the process, what the state was after its last transaction. The nonce does not tell a backup that was taken in this
  very run and put back in it; the clock does, which moves with every fold.

A new site is written *before* anything is folded, so that what waits in the log is stamped under it, and nothing that
the application wrote is lost."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from replication.engine import state
from replication.engine.session import NotAttached
from replication.engine.sites import Sites
from replication.engine.stamps import Site, Stamp
from replication.engine.transacting import transaction


class StateReplaced(Exception):
    """The database is not as this process left it: somebody put another state in its place. Nothing was changed."""

    def __init__(self) -> None:
        super().__init__("the database was replaced under the running node; it has to begin again, under a new site")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBegan:
    """Under which site the run goes on. `former`: the site that it had before, if another state of it may be about."""

    site: Site
    former: Site | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a process remembers of the state after its last transaction. `head` is the own site's, `whole` the sum of
    all heads: they only grow."""

    site: Site
    nonce: bytes
    clock: Stamp
    head: Stamp | None
    whole: int


def begin_run(
    connection: sqlite3.Connection, *, known_nonce: bytes | None, new_nonce: bytes, new_site: Callable[[], Site]
) -> RunBegan:
    """A run begins: `new_nonce` stands in the database from now on. Commits, before anything is folded.

    `known_nonce` is that of the last run here, from outside the database; None if there is none. Raises NotAttached,
    and sqlite3.OperationalError (the lock, the disk), with nothing changed.
    """
    with transaction(connection):
        found = _read(connection)
        state.write_nonce(connection, new_nonce)
        if found.nonce == known_nonce:
            return RunBegan(site=found.site, former=None)
        _close_what_was_set_aside(connection, found.site)
        site = new_site()
        state.write_site(connection, site)
        return RunBegan(site=site, former=None if found.head is None else found.site)


def adopt_new_site(connection: sqlite3.Connection, new_site: Site, *, expected: Remembered | None = None) -> None:
    """Goes on under a new site, before anything is folded. Commits. Raises as `begin_run` does, and StateReplaced if
    the state is not as `expected`."""
    with transaction(connection):
        check_remembered(connection, expected)
        _close_what_was_set_aside(connection, _read(connection).site)
        state.write_site(connection, new_site)


def _close_what_was_set_aside(connection: sqlite3.Connection, site: Site) -> None:
    """A copy of a database whose site was to be cut: here it is a branch of that site, up to the head."""
    sites = Sites(connection)
    if sites.is_closed(site):
        sites.close(site, ())


def remember(connection: sqlite3.Connection) -> Remembered:
    """The state as it is: to be asked for after each transaction of the process's own. Raises NotAttached."""
    return _read(connection)


def is_as_remembered(connection: sqlite3.Connection, remembered: Remembered) -> bool:
    """Whether the state is what this process left: one small query. More heads are: attaching one more table."""
    try:
        found = _read(connection)
    except NotAttached:
        return False
    return (found.site, found.nonce, found.clock, found.head) == (
        remembered.site,
        remembered.nonce,
        remembered.clock,
        remembered.head,
    ) and found.whole >= remembered.whole


def check_remembered(connection: sqlite3.Connection, expected: Remembered | None) -> None:
    """Raises StateReplaced unless the state is as expected, or nothing is. In a transaction, before it writes."""
    if expected is not None and not is_as_remembered(connection, expected):
        raise StateReplaced


def _read(connection: sqlite3.Connection) -> Remembered:
    try:
        # Summed in two parts: 64 bits hold some eighty heads.
        row = connection.execute(
            "SELECT site, nonce, clock, (SELECT head FROM main._litecast_sites s WHERE s.site = t.site),"
            " (SELECT coalesce(sum(head >> 16), 0) FROM main._litecast_sites),"
            " (SELECT coalesce(sum(head & 65535), 0) FROM main._litecast_sites)"
            " FROM main._litecast_state t WHERE id = 1"
        ).fetchone()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):  # table, or column: nothing is attached
            raise NotAttached from error
        raise
    if row is None or row[0] is None:
        raise NotAttached
    site, nonce, clock, head, upper, lower = row
    return Remembered(
        site=Site(site),
        nonce=nonce,
        clock=Stamp(clock),
        head=None if head is None else Stamp(head),
        whole=(upper << 16) + lower,
    )
