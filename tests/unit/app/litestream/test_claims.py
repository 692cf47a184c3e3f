"""Who may follow the claim of an address."""

import pytest

from app.litestream.claims import (
    CLAIM_MAX_BYTES,
    BadClaim,
    Claim,
    decode,
    encode,
    name_of,
    number_of,
    tokens_in,
    why_not,
)

OLD, NEW = "0" * 32, "f" * 32
FOUND = Claim(cluster="c", node="a", token=OLD)


def test_a_free_address_is_anybodys() -> None:
    assert why_not(None, cluster="c", node="a", remembered=()) is None
    assert why_not(None, cluster="c", node="a", remembered=(NEW,)) is None


def test_a_node_follows_its_own_claim_and_the_one_that_it_was_about_to_follow() -> None:
    assert why_not(FOUND, cluster="c", node="a", remembered=(OLD,)) is None
    assert why_not(FOUND, cluster="c", node="a", remembered=(NEW, OLD)) is None


def test_a_node_that_lost_its_disk_follows_the_claim_of_its_name() -> None:
    assert why_not(FOUND, cluster="c", node="a", remembered=()) is None


@pytest.mark.parametrize(("cluster", "node"), [("c", "b"), ("other", "a")])
def test_another_node_and_another_clusters_are_refused(cluster: str, node: str) -> None:
    assert why_not(FOUND, cluster=cluster, node=node, remembered=()) == "is that of node 'a' of cluster 'c'"


def test_a_node_of_the_same_name_that_remembers_another_claim_is_refused() -> None:
    assert "taken over" in (why_not(FOUND, cluster="c", node="a", remembered=(NEW,)) or "")


def test_a_claim_comes_back_as_it_was_written() -> None:
    assert decode(encode(FOUND)) == FOUND
    assert number_of(name_of(17)) == 17
    assert [number_of(name) for name in ("claim-1.json", "ltx", "claim-000000000001.json.new")] == [None] * 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"litecast litestream": 2, "cluster": "c", "node": "a", "token": "t"}',
        b'{"litecast litestream": 1, "cluster": "c", "node": 1, "token": "t"}',
        b'{"litecast litestream": 1, "cluster": "c", "node": "' + b"a" * CLAIM_MAX_BYTES + b'", "token": "t"}',
    ],
)
def test_what_is_no_claim_is_refused(content: bytes) -> None:
    with pytest.raises(BadClaim):
        decode(content)


def test_a_file_that_was_not_written_whole_remembers_what_is_whole() -> None:
    assert tokens_in(f"{NEW}\n{OLD}\n") == (NEW, OLD)
    assert tokens_in(f"{NEW}\n{OLD[:9]}") == (NEW,)
