import pytest

from cluster.lease.interface import EPOCH_MAX
from cluster.security import Secret, derive_token_key
from replication.engine.epochs import epoch_site
from replication.engine.stamps import STAMP_MAX, Site, Stamp
from replication.epoch_position import EpochPosition
from replication.middleware import token
from replication.middleware.token import ForeignToken, NotAToken

KEY = b"k" * 32
POSITION = EpochPosition.of(epoch_site(7, "0123456789abcdef012"), Stamp(1_700_000_000_000 << 16))


@pytest.mark.parametrize("epoch", [1, 7, EPOCH_MAX])
@pytest.mark.parametrize("stamp", [0, 1, STAMP_MAX])
def test_a_token_is_a_position_in_55_characters(epoch: int, stamp: int) -> None:
    position = EpochPosition.of(epoch_site(epoch, "f" * 19), Stamp(stamp))
    text = token.signed(position, KEY)
    assert len(text) == 55
    assert token.parse(text, KEY) == position


def test_of_two_epochs_the_later_is_the_later_position_and_of_one_the_later_stamp() -> None:
    early, late = epoch_site(1, "f" * 19), epoch_site(2, "0" * 19)
    assert EpochPosition.of(early, Stamp(9)) < EpochPosition.of(late, Stamp(1)) < EpochPosition.of(late, Stamp(2))


def test_a_token_in_which_any_character_is_another_is_refused() -> None:
    text = token.signed(POSITION, KEY)
    for place in range(len(text)):
        other = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        with pytest.raises((ForeignToken, NotAToken)):
            token.parse(other, KEY)


def test_a_token_of_another_cluster_or_secret_is_foreign() -> None:
    secret, other = Secret("s" * 32), Secret("t" * 32)
    text = token.signed(POSITION, derive_token_key(secret, "shop"))
    assert token.parse(text, derive_token_key(secret, "shop")) == POSITION
    for key in (derive_token_key(secret, "bank"), derive_token_key(other, "shop"), derive_token_key(None, "shop")):
        with pytest.raises(ForeignToken):
            token.parse(text, key)


@pytest.mark.parametrize("text", ["", "x", "é" * 55, "A" * 54, "A" * 56, "=" * 55, "\0" * 55, "A" * 10_000])
def test_what_is_no_token_is_told(text: str) -> None:
    with pytest.raises(NotAToken):
        token.parse(text, KEY)


def test_what_this_cluster_signed_and_is_no_position_is_told_too() -> None:
    body = bytes([2]) + int(POSITION.site[1:], 16).to_bytes(16) + POSITION.stamp.to_bytes(8)
    of_a_newer_version = token._text(body, KEY)
    of_no_site = token._text(bytes([1]) + b"\xff" * 16 + bytes(8), KEY)
    of_no_stamp = token._text(bytes([1]) + bytes(16) + b"\xff" * 8, KEY)
    for text in (of_a_newer_version, of_no_site, of_no_stamp):
        with pytest.raises(NotAToken):
            token.parse(text, KEY)


def test_a_site_is_what_it_was() -> None:
    assert token.parse(token.signed(POSITION, KEY), KEY).site == Site("p0000000000070123456789abcdef012")
