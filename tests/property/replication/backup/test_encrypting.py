"""What is encrypted comes back for who has the key and asks for it by its name, and for nobody else."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.security import Secret
from replication.backup.encrypting import OVERHEAD_BYTES, CannotDecrypt, Key, key_of, new_key
from replication.backup.envelope import BadEnvelope, seal, unseal
from replication.backup.marker import BadMarker, Marker, decode, encode

KEY = new_key()
names = st.text(max_size=80)


@given(names, st.binary(max_size=5_000))
def test_what_is_encrypted_comes_back(name: str, content: bytes) -> None:
    sealed = KEY.encrypt(name, content)
    assert KEY.decrypt(name, sealed) == content
    assert len(sealed) == len(content) + OVERHEAD_BYTES
    assert len(content) < 8 or content not in sealed


@given(names, st.binary(max_size=500), st.data())
def test_an_object_of_which_a_bit_is_another_is_refused(name: str, content: bytes, data: st.DataObject) -> None:
    sealed = bytearray(KEY.encrypt(name, content))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(CannotDecrypt):
        KEY.decrypt(name, bytes(sealed))


@given(names, st.binary(max_size=500), st.binary(min_size=1, max_size=20), st.data())
def test_an_object_that_is_truncated_or_goes_on_is_refused(
    name: str, content: bytes, more: bytes, data: st.DataObject
) -> None:
    sealed = KEY.encrypt(name, content)
    for other in (sealed[: data.draw(st.integers(0, len(sealed) - 1))], sealed + more, more + sealed):
        with pytest.raises(CannotDecrypt):
            KEY.decrypt(name, other)


@given(st.tuples(names, names).filter(lambda two: two[0] != two[1]), st.binary(max_size=500))
def test_an_object_in_the_place_of_another_is_refused(two: tuple[str, str], content: bytes) -> None:
    with pytest.raises(CannotDecrypt, match="in the place of another"):
        KEY.decrypt(two[1], KEY.encrypt(two[0], content))


@given(names, st.binary(max_size=500))
def test_parts_of_two_objects_of_one_name_make_no_third(name: str, content: bytes) -> None:
    one, other = KEY.encrypt(name, content), KEY.encrypt(name, content)
    assert one != other
    for cut in (38, len(one) - 16):
        with pytest.raises(CannotDecrypt):
            KEY.decrypt(name, one[:cut] + other[cut:])


@given(names, st.binary(max_size=500))
def test_another_key_opens_nothing(name: str, content: bytes) -> None:
    with pytest.raises(CannotDecrypt):
        new_key().decrypt(name, KEY.encrypt(name, content))


@given(st.binary(max_size=200))
def test_no_bytes_make_a_reader_fail_in_another_way(content: bytes) -> None:
    with pytest.raises(CannotDecrypt):
        KEY.decrypt("a name", content)


def test_who_cannot_decrypt_is_told_what_it_is() -> None:
    with pytest.raises(CannotDecrypt, match="is not encrypted, as all of this backup is"):
        KEY.decrypt("a name", seal(b"content"))
    with pytest.raises(CannotDecrypt, match="upgrade litecast"):
        KEY.decrypt("a name", b"LCBK\x02\x02" + bytes(100))
    with pytest.raises(CannotDecrypt, match="no object of a backup"):
        KEY.decrypt("a name", b"holiday.jpg")
    with pytest.raises(BadEnvelope, match="is encrypted"):
        unseal(KEY.encrypt("a name", b"content"), max_bytes=100)


@given(st.text(min_size=32, max_size=64), st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_key_lies_in_the_bucket_for_who_has_the_secret_and_the_name(secret: str, cluster: str, other: str) -> None:
    wrapping = key_of(Secret(secret), cluster)
    wrapped = wrapping.wrap("keys/1", KEY)
    assert key_of(Secret(secret), cluster).unwrap("keys/1", wrapped).fingerprint == KEY.fingerprint
    strangers = [key_of(Secret(secret + "x"), cluster), *([key_of(Secret(secret), other)] if other != cluster else [])]
    for stranger in strangers:
        assert stranger.fingerprint != wrapping.fingerprint
        with pytest.raises(CannotDecrypt):
            stranger.unwrap("keys/1", wrapped)


def test_a_key_shows_itself_nowhere() -> None:
    raw = bytes(range(32))
    key = Key(raw)
    for text in (repr(key), str(key), f"{key}"):
        assert text == "Key(…)"
    assert raw.hex() not in key.fingerprint
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(ValueError, match="a key has 32 bytes"):
        Key(raw[:16])
    with pytest.raises(CannotDecrypt, match="holds no key"):
        KEY.unwrap("a name", KEY.encrypt("a name", b"short"))


@given(st.text(min_size=1, max_size=100), st.none() | st.just(KEY.fingerprint))
def test_a_marker_is_read_back_as_it_was(cluster: str, key: str | None) -> None:
    assert decode(encode(Marker(cluster, key))) == Marker(cluster, key)


@pytest.mark.parametrize(
    "content",
    [
        b'{"litecast backup": 2, "cluster": "c"}',
        b'{"litecast backup": 2, "cluster": "c", "key": "short"}',
        b'{"litecast backup": 2, "cluster": "c", "key": 1}',
        b'{"litecast backup": 3, "cluster": "c"}',
    ],
)
def test_a_marker_that_says_half_of_it_is_none(content: bytes) -> None:
    with pytest.raises(BadMarker):
        decode(content)
