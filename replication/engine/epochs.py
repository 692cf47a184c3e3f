"""Epochs: where one node writes at a time, who wrote when.

Each grant of the lease has an epoch, and the node that is granted it goes on under a new site, in whose name the epoch
stands. So a changeset, a head and a position all say of which epoch they are, and nothing else has to. A site's first
changeset depends on the whole vector of its node: that is the position at which the epoch began. What is of an earlier
epoch, and is not covered by it, is a *tail*: written by who held the lease before, and sent to nobody who was asked
before the next one wrote. A tail breaks what the mode is for, and is not merged:

- Once a node has merged anything of an epoch, nothing of an earlier one is accepted. All that it could still need of
  these was a dependency of the epoch's first changeset.
- A node that holds a tail itself, written or merged, finds it by comparing its heads with where the epoch began.

Every stamp of an epoch is later than all that its node had merged when it began, since the clock moves by what is
merged. So (epoch, stamp) and stamp alone order what is merged in the same way, and entries need not say an epoch.

Baselines are of no epoch: rows that were there before anybody wrote anything."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cluster.lease.interface import EPOCH_MAX
from replication.engine import fence, state
from replication.engine.catalogue import ONE_WRITER, is_one_writer
from replication.engine.changesets import EncodedTables
from replication.engine.folding import Folded, fold_inside, publish
from replication.engine.identity import Remembered, check_remembered
from replication.engine.session import Session, open_session
from replication.engine.sites import Head, stamps_of
from replication.engine.stamps import EPOCH_DIGITS, Site, Stamp, first_after, is_baseline, next_stamp
from replication.engine.stamps import epoch_of as epoch_of
from replication.engine.transacting import merging_transaction, transaction
from replication.engine.values import pack, unpack

_RANDOM_DIGITS: Final = 19


def epoch_site(epoch: int, random_hex: str) -> Site:
    """A site for an epoch. `random_hex`: at least 19 digits that nobody else draws."""
    if not 1 <= epoch <= EPOCH_MAX:
        raise ValueError(f"{epoch} is no epoch")
    return Site(f"p{epoch:0{EPOCH_DIGITS}x}{random_hex[:_RANDOM_DIGITS]}")


def newest(sites: Iterable[Site]) -> Site | None:
    """The site of the newest epoch among these; None if there is none of any."""
    return max((site for site in sites if epoch_of(site)), key=epoch_of, default=None)


def is_over(site: Site, newest_site: Site | None) -> bool:
    """Whether a site's epoch is over where this is the newest one of which anything is merged."""
    if newest_site is None or site == newest_site or is_baseline(site):
        return False
    return epoch_of(site) <= epoch_of(newest_site)


def tail(heads: Mapping[Site, Stamp], *, epoch: Site, began: Mapping[Site, Stamp]) -> dict[Site, Stamp]:
    """What somebody with these heads has of earlier epochs beyond where this one began: by site, after which stamp."""
    return {
        site: began.get(site, first_after(site))
        for site, stamp in heads.items()
        if is_over(site, epoch) and stamp > began.get(site, first_after(site))
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The newest epoch of which anything is merged here. `site` is None if there is none yet."""

    site: Site | None = None
    began: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    """What was merged of each site on its node when it began."""

    @property
    def number(self) -> int:
        """0 if there is none yet."""
        return 0 if self.site is None else epoch_of(self.site)

    def tail_of(self, heads: Mapping[Site, Stamp]) -> dict[Site, Stamp]:
        """See `tail`."""
        return {} if self.site is None else tail(heads, epoch=self.site, began=self.began)


def read(connection: sqlite3.Connection) -> Epoch | None:
    """The newest epoch; None where many nodes write at a time."""
    if not is_one_writer(connection):
        return None
    site, began = connection.execute(f"SELECT epoch, began FROM main.{ONE_WRITER}").fetchone()
    if site is None:
        return Epoch()
    return Epoch(site=Site(site), began={Site(one): Stamp(stamp) for one, stamp in unpack(began)})


def note(connection: sqlite3.Connection, site: Site, began: Mapping[Site, Stamp]) -> None:
    """An epoch's first changeset is merged, or somebody's state who had it. Inside a transaction."""
    packed = pack(tuple(sorted(began.items())))
    connection.execute(f"UPDATE main.{ONE_WRITER} SET epoch = ?, began = ?", (site, packed))


def note_of_state(session: Session, heads: Mapping[Site, Head]) -> bool:
    """All of somebody's state is merged who had these heads: if he had merged an epoch's beginning, so has this
    database now. In the transaction at work. False where many nodes write at a time."""
    epoch, site = read(session.connection), newest(heads)
    if epoch is not None and site is not None and epoch_of(site) > epoch.number:
        note(session.connection, site, _began(site, heads))
    return epoch is not None


def against_state(session: Session, heads: Mapping[Site, Head]) -> str:
    """Why the state of somebody with these heads is not merged; "" if it may be."""
    epoch, site = read(session.connection), newest(heads)
    if epoch is None:
        return ""
    if epoch.tail_of(stamps_of(heads)):
        return "its sender has what was written after the epoch was over"
    if site is None or epoch_of(site) <= epoch.number:
        return ""
    is_tail = tail(stamps_of(session.sites.heads()), epoch=site, began=_began(site, heads))
    return "this database has what was written after the epoch was over" if is_tail else ""


def _began(site: Site, heads: Mapping[Site, Head]) -> dict[Site, Stamp]:
    """Where an epoch began, by the heads of who has merged its beginning: he accepts no more of earlier ones."""
    return {one: head.stamp for one, head in heads.items() if is_over(one, site)}


def begin(
    connection: sqlite3.Connection,
    site: Site,
    *,
    now_ms: int,
    expected: Remembered | None = None,
) -> list[Folded]:
    """This node was granted an epoch: it goes on under its site, and its tables are not fenced any more.

    What its log holds is stamped under the old site before. The epoch's first changeset is empty: it tells everybody
    that, and where, the epoch began. Commits. Raises as a fold does, with nothing changed."""
    with merging_transaction(connection):
        check_remembered(connection, expected)
        before = fold_inside(open_session(connection), now_ms=now_ms)
        state.write_site(connection, site)
        session = open_session(connection)
        began = {one: head.stamp for one, head in session.sites.heads().items()}
        first = publish(session, next_stamp(now_ms=now_ms, clock=session.clock), EncodedTables())
        note(connection, site, began)
        fence.lift_fence(connection)
        return [first] if before is None else [before, first]


def end(
    connection: sqlite3.Connection, message: str, *, now_ms: int, expected: Remembered | None = None
) -> Folded | None:
    """This node does not hold the lease, or not any more: its tables are fenced, and what was written by now is folded.
    Commits."""
    with merging_transaction(connection):
        check_remembered(connection, expected)
        folded = fold_inside(open_session(connection), now_ms=now_ms)
        fence.raise_fence(connection, message)
        return folded


def raise_fence_only(connection: sqlite3.Connection, message: str) -> None:
    """A run begins, and this node holds no lease yet. What its log holds waits until it has joined. Commits."""
    with transaction(connection):
        fence.raise_fence(connection, message)
