"""Who wrote, and when: sites, stamps and dots.

A stamp is a hybrid logical clock (Kulkarni et al. 2014) in one integer: milliseconds since 1970 shifted left by 16
bits. The low bits count where several stamps fall into one millisecond or the clock stood still. It fits an SQLite
integer until the year 6429."""

import re
from typing import NamedTuple, NewType

Site = NewType("Site", str)
"""The identity under which a database's changes are stamped: 32 hex digits. A baseline's is "g" and 31 hex digits; that
of an epoch (see `epochs`) "p", 12 hex digits for the epoch, and 19 more."""

Stamp = NewType("Stamp", int)
"""Milliseconds since 1970, shifted left by 16 bits. 0 is the stamp of all baselines."""


class Dot(NamedTuple):
    """Names one changeset, and so each cell that was written in it. Compares as a tuple: stamp first, then site."""

    stamp: Stamp
    site: Site


GENESIS = Site("g" + "0" * 31)
"""Under this site stand the counters of all baselines, whatever site the baseline has; the larger value wins.
It is also the site of values that every node computed for itself, in a migration. No site is smaller."""

BASELINE_STAMP = Stamp(0)
STAMP_MAX = Stamp(2**63 - 1)
ALL_BRANCHES = STAMP_MAX
"""A dep on a site that its origin knows to be closed, instead of a stamp: see `closing`."""

EPOCH_DIGITS = 12

_SHIFT = 16
_SITE = re.compile(r"[0-9a-f]{32}|[gp][0-9a-f]{31}")


def is_site(text: object) -> bool:
    """True if `text` has the form of a site's name."""
    return isinstance(text, str) and _SITE.fullmatch(text) is not None


def is_baseline(site: Site) -> bool:
    """True if the site is a baseline's: rows that were there before anybody stamped them."""
    return site.startswith("g")


def epoch_of(site: Site) -> int:
    """The epoch in which this site writes; 0 for the site of a node that was granted none."""
    return int(site[1 : 1 + EPOCH_DIGITS], 16) if site.startswith("p") else 0


def stamp_at(ms: int) -> Stamp:
    """The first stamp of a millisecond since 1970."""
    return Stamp(ms << _SHIFT)


def ms_of(stamp: Stamp) -> int:
    """The millisecond since 1970 that a stamp was made in, or was ahead to."""
    return stamp >> _SHIFT


def next_stamp(*, now_ms: int, clock: Stamp) -> Stamp:
    """The stamp of the next changeset: later than everything merged and stamped here, and not before now."""
    return Stamp(max(now_ms << _SHIFT, clock + 1))


def latest_ms(*, now_ms: int, bound_ms: int, newest_of_others: Stamp) -> int:
    """The last millisecond of which a stamp is merged: later ones wait until time has come.

    `newest_of_others` is what is merged of other sites. Where that is beyond the bound already, a stamp near it does no
    harm that is not done: a cluster whose clocks were all ahead goes on when they are right again."""
    merged_ms = ms_of(newest_of_others)
    return (merged_ms if merged_ms > now_ms + bound_ms else now_ms) + bound_ms


def first_after(site: Site) -> Stamp:
    """The `after` of a site's first changeset."""
    return Stamp(-1) if is_baseline(site) else Stamp(0)
