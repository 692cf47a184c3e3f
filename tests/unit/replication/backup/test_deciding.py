"""Who uploads what, what counts as safe, and when a snapshot is due."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from replication.backup.deciding import (
    Peer,
    frontier,
    includes,
    is_related,
    orphans,
    safe,
    takes_care,
    to_upload,
    why_snapshot,
)
from replication.backup.manifests import Manifest
from replication.backup.names import SnapshotId
from replication.engine.sites import Head
from replication.engine.stamps import STAMP_MAX, Site, Stamp

A, B, C = (Site(letter * 32) for letter in "abc")


def head(stamp: int) -> Head:
    return Head(stamp=Stamp(stamp), digest=b"d" * 16)


def at(**stamps: int) -> dict[Site, Stamp]:
    return {Site(letter * 32): Stamp(stamp) for letter, stamp in stamps.items()}


SNAPSHOT = Manifest(
    snapshot=SnapshotId("0" * 16 + "-" + "0" * 16),
    number=1,
    cluster="c",
    node="a",
    taken_ms=1,
    clock=Stamp(10),
    pieces=(),
    vector={A: head(10)},
    closed={},
    schemas={"t": "1"},
)


def test_of_those_whose_uploads_work_the_one_with_the_smallest_name_takes_care() -> None:
    assert takes_care("b", {})
    assert takes_care("b", {"c": Peer(site=C, works=True)})
    assert not takes_care("b", {"a": Peer(site=A, works=True)})
    assert takes_care("b", {"a": Peer(site=A, works=False)})


def test_a_site_is_an_orphan_unless_somebody_who_is_up_and_well_uploads_it() -> None:
    heads = at(a=1, b=1, c=1)
    assert orphans(heads, A, {"b": Peer(site=B, works=True)}) == {C}
    assert orphans(heads, A, {"b": Peer(site=B, works=False)}) == {B, C}


def test_a_node_uploads_what_is_its_own_and_what_fell_to_it_and_is_not_there() -> None:
    heads = at(a=5, b=5, c=5)
    assert to_upload(heads, {}, own=B, adopted={C}) == [B, C]
    assert to_upload(heads, at(b=5, c=4), own=B, adopted={C}) == [C]
    assert to_upload(heads, at(b=5, c=6), own=B, adopted={C}) == []


def test_everything_up_to_what_is_lacking_first_is_there() -> None:
    assert frontier({}) == STAMP_MAX
    assert frontier(at(a=7, b=4)) == 3


def test_what_is_stamped_after_something_that_is_lacking_does_not_count() -> None:
    heads = at(a=10, b=8)
    assert safe({}, heads, Stamp(8), at(a=6)) == at(a=6, b=8)
    assert safe({}, heads, STAMP_MAX, {}) == heads


@given(
    st.dictionaries(st.sampled_from((A, B, C)), st.integers(0, 20).map(Stamp)),
    st.dictionaries(st.sampled_from((A, B, C)), st.integers(0, 20).map(Stamp)),
    st.integers(0, 20).map(Stamp),
)
def test_what_was_safe_stays_so(before: dict[Site, Stamp], heads: dict[Site, Stamp], limit: Stamp) -> None:
    found = safe(before, heads, limit, {})
    assert all(found[site] >= stamp for site, stamp in before.items())


def test_a_snapshot_is_due_where_changesets_do_not_bring_everything() -> None:
    def why(newest: Manifest, *, beyond: bool = False, due: bool = False, a: int = 10, **closed: int) -> str:
        tips = {site: frozenset({head(stamp)}) for site, stamp in at(**closed).items()}
        vector = {A: head(a)}
        return why_snapshot(newest, vector=vector, closed=tips, schemas={"t": "1"}, beyond_journal=beyond, is_due=due)

    assert not why(SNAPSHOT)
    assert "apart" in why(SNAPSHOT, b=3)
    assert not why(replace(SNAPSHOT, closed={B: frozenset({head(3)})}), b=3)
    assert "apart" in why(replace(SNAPSHOT, closed={B: frozenset({head(2)})}), b=3)
    assert "tables" in why(replace(SNAPSHOT, schemas={"t": "2"}))
    assert "journal" in why(SNAPSHOT, beyond=True)
    assert "time" in why(SNAPSHOT, due=True, a=11)
    assert not why(SNAPSHOT, due=False, a=11)
    assert not why(SNAPSHOT, due=True), "nothing was written since"


def test_a_copy_follows_a_snapshot_only_if_it_has_all_that_that_one_has() -> None:
    assert includes({}, set(), None)
    assert includes(at(a=10, b=1), set(), SNAPSHOT)
    assert not includes(at(a=9), set(), SNAPSHOT)
    assert includes(at(b=1), {A}, SNAPSHOT)
    assert not includes(at(a=10), set(), replace(SNAPSHOT, closed={B: frozenset({head(3)})}))


def test_two_histories_have_no_site_in_common() -> None:
    assert is_related(None, {B})
    assert is_related(SNAPSHOT, set())
    assert is_related(SNAPSHOT, {A, B})
    assert not is_related(SNAPSHOT, {B})
