"""What is written to a bucket is read back as it was; and nothing that was altered is taken for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.backup import batches, manifests
from replication.backup.batches import BadBatch, batch_of
from replication.backup.envelope import BadEnvelope, seal, unseal
from replication.backup.manifests import BadManifest, Manifest, Piece
from replication.backup.names import (
    Stretch,
    is_snapshot_id,
    of_closing,
    of_stretch,
    snapshot_id,
    snapshots_in,
    stretch_of,
)
from replication.backup.saying import Said, parse
from replication.engine.received import Malformed
from replication.engine.sites import Head
from replication.engine.stamps import STAMP_MAX, Site, Stamp
from tests.support.chains import chain

sites = st.builds(
    lambda first, rest: Site(first + rest),
    st.sampled_from("0fgp"),
    st.text("0123456789abcdef", min_size=31, max_size=31),
)
stamps = st.integers(0, STAMP_MAX).map(Stamp)
heads = st.builds(
    lambda stamp, found, run: Head(stamp=stamp, digest=found, run=run),
    stamps,
    st.binary(min_size=16, max_size=16),
    st.sampled_from([b"", b"12345678"]),
)
manifests_made = st.builds(
    Manifest,
    snapshot=st.builds(snapshot_id, stamps, st.binary(min_size=8, max_size=8)),
    number=st.integers(1, 99_999_999),
    cluster=st.text(min_size=1),
    node=st.text(min_size=1),
    taken_ms=st.integers(0, 2**48),
    clock=stamps,
    pieces=st.lists(st.builds(Piece, size=st.integers(1, 2**26), digest=st.binary(min_size=16, max_size=16))).map(
        tuple
    ),
    vector=st.dictionaries(sites, heads),
    closed=st.dictionaries(sites, st.frozensets(heads)),
    schemas=st.dictionaries(st.text(min_size=1), st.text(min_size=1)),
    content=st.dictionaries(st.text(min_size=1), st.text(min_size=1)),
)


@given(st.binary(max_size=10_000))
def test_what_is_sealed_is_unsealed(content: bytes) -> None:
    assert unseal(seal(content), max_bytes=10_000) == content


@given(st.binary(min_size=1, max_size=1_000), st.data())
def test_a_sealed_object_of_which_a_bit_is_another_is_refused(content: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(content))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(BadEnvelope):
        unseal(bytes(sealed), max_bytes=10_000)


@given(st.binary(min_size=1, max_size=1_000), st.data())
def test_a_sealed_object_that_is_truncated_or_goes_on_is_refused(content: bytes, data: st.DataObject) -> None:
    sealed = seal(content)
    for other in (sealed[: data.draw(st.integers(0, len(sealed) - 1))], sealed + b"more"):
        with pytest.raises(BadEnvelope):
            unseal(other, max_bytes=10_000)


def test_what_is_larger_than_it_may_be_is_never_made() -> None:
    with pytest.raises(BadEnvelope, match="larger than 1000 bytes"):
        unseal(seal(bytes(100_000_000)), max_bytes=1_000)


@given(st.binary(max_size=200))
def test_no_bytes_make_a_reader_fail_in_another_way(content: bytes) -> None:
    for read, error in ((batches.decode, BadBatch), (manifests.decode, BadManifest)):
        for one in (content, seal(content)):
            with pytest.raises(error):
                read(one)


@given(sites.filter(lambda site: not site.startswith("g")), st.integers(1, 6))
def test_a_batch_is_read_back_as_it_was(site: Site, count: int) -> None:
    batch = batch_of("c", site, chain(site, count))
    assert batches.decode(batches.encode(batch)) == batch
    assert stretch_of(of_stretch(batch.stretch)) == batch.stretch


def test_changesets_that_do_not_join_are_no_batch() -> None:
    site, other = Site("1" * 32), Site("2" * 32)
    one = chain(site, 3)
    for changesets in (
        [],
        [one[0], one[2]],
        [one[1], one[0]],
        [one[0], one[0]],
        chain(other, 1),
        chain(site, 1, "another"),
    ):
        with pytest.raises(BadBatch):
            batch_of("c", site, changesets)
    assert len(batch_of("c", site, one[1:]).links) == 2


@given(manifests_made)
def test_what_closes_a_snapshot_is_read_back_as_it_was(manifest: Manifest) -> None:
    assert manifests.decode(manifests.encode(manifest)) == manifest
    assert snapshots_in([of_closing(manifest.number), "snapshots/x", f"snapshots/{manifest.snapshot}/000000"]) == [
        manifest.number
    ]
    assert is_snapshot_id(manifest.snapshot)


@given(sites, stamps, stamps)
def test_a_stretch_has_one_name_and_names_sort_as_stamps(site: Site, one: Stamp, other: Stamp) -> None:
    first, last = sorted((one, other))
    stretch = Stretch(site, first, last)
    assert stretch_of(of_stretch(stretch)) == stretch
    names = [of_stretch(Stretch(site, first, first)), of_stretch(Stretch(site, last, last))]
    assert names == sorted(names)


@given(st.text() | st.from_regex(r"changesets/[0-9a-f]{32}/[0-9a-f]{16}-[0-9a-f]{16}(x|/x)?", fullmatch=True))
def test_other_names_are_of_no_stretch_or_of_the_one_that_they_name(name: str) -> None:
    found = stretch_of(name)
    assert found is None or of_stretch(found) == name


@given(
    st.builds(
        Said,
        site=sites,
        works=st.booleans(),
        snapshot=st.integers(0, 99_999_999),
        uploaded=st.dictionaries(sites, stamps),
    )
)
def test_what_is_said_is_heard(said: Said) -> None:
    assert parse(said.plain()) == said


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        ["backup"],
        ["other", "1" * 32, True, 0, []],
        ["backup", "no site", True, 0, []],
        ["backup", "1" * 32, 1, 0, []],
        ["backup", "1" * 32, True, -1, []],
        ["backup", "1" * 32, True, True, []],
        ["backup", "1" * 32, True, 0, [["1" * 32]]],
        ["backup", "1" * 32, True, 0, [["1" * 32, -1]]],
        ["backup", "1" * 32, True, 0, [["1" * 32, 2**63]]],
        ["backup", "1" * 32, True, 0, {"1" * 32: 1}],
    ],
)
def test_what_is_no_word_on_the_backup_is_not_believed(message: object) -> None:
    with pytest.raises(Malformed):
        parse(message)
