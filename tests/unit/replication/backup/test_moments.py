"""Moments as people write them."""

from dataclasses import replace

import pytest

from replication.backup.cuts import EVERYTHING, AtMoment, Fit
from replication.backup.listing import Listed
from replication.backup.manifests import Manifest
from replication.backup.moments import NotAMoment, parse, said
from replication.backup.names import snapshot_id
from replication.engine.stamps import Stamp, stamp_at

MS = 1_795_789_800_000


@pytest.mark.parametrize(
    ("text", "ms", "has_zone"),
    [
        ("2026-11-27T14:30:00Z", MS, True),
        ("2026-11-27 14:30:00Z", MS, True),
        ("2026-11-27T16:30:00+02:00", MS, True),
        ("2026-11-27T14:30", MS, False),
        ("2026-11-27T14:30:00.9999", MS + 999, False),
        ("20261127T143000Z", MS, True),
        ("2026-11-27", MS - (14 * 60 + 30) * 60_000, False),
        ("1970-01-01T00:00:00Z", 0, True),
    ],
)
def test_a_moment_is_what_its_text_says(text: str, ms: int, has_zone: bool) -> None:
    assert parse(text) == (ms, has_zone)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "1700000000", "2026-13-01", "14:30", "1969-12-31T23:59:59Z", "2026-11-27T14:30:00Z and"]
)
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(NotAMoment, match="2026-11-27T14:30:00Z"):
        parse(text)


@pytest.mark.parametrize("ms", [0, 1, MS, MS + 7, 253_402_300_799_999])
def test_what_is_said_of_a_moment_can_be_given_back(ms: int) -> None:
    assert parse(said(ms)) == (ms, True)


def test_a_copy_of_rows_that_nobody_had_stamped_says_nothing_of_the_time_before_it_was_taken() -> None:
    first = Manifest(
        snapshot=snapshot_id(Stamp(0), b"12345678"),
        number=1,
        cluster="c",
        node="n",
        taken_ms=5_000,
        clock=Stamp(0),
        pieces=(),
        vector={},
        closed={},
    )
    assert (AtMoment(4_999).fits(first), AtMoment(5_000).fits(first)) == (Fit.NO, Fit.YES)
    assert EVERYTHING.fits(first) is Fit.YES
    written = replace(first, clock=Stamp(stamp_at(4_000)))
    assert (AtMoment(3_999).fits(written), AtMoment(4_000).fits(written)) == (Fit.NO, Fit.YES)
    assert Listed(cluster="c", snapshots=[first], sites={}).span_ms == (5_000, 5_000)
