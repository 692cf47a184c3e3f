"""A secret does not show itself, and other secrets, names and purposes make other keys."""

import copy
import hmac
import itertools
import logging
import pickle
import stat
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from cluster.errors import SecretError
from cluster.security import (
    Secret,
    derive,
    derive_curve_keys,
    is_readable_by_others,
    make_secret,
    read_secret_file,
)

TEXT = "correct horse battery staple and more"


@dataclass(frozen=True)
class Settings:
    secret: Secret


def test_secret_shows_itself_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(TEXT)
    keys = derive_curve_keys(secret, "c")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>60}",
        repr([secret]),
        repr(Settings(secret)),
    ]
    shown += [repr(keys), str(keys)]
    logging.getLogger("x").warning("%s %r", secret, secret)
    shown.append(caplog.text)
    try:
        raise RuntimeError(secret, keys)
    except RuntimeError:
        shown.append(traceback.format_exc())
    for text in shown:
        assert "horse" not in text
        assert keys.server_secret.decode() not in text
        assert keys.client_secret.decode() not in text
    assert not hasattr(secret, "__dict__")


def test_error_about_a_short_secret_does_not_show_it() -> None:
    with pytest.raises(SecretError) as caught:
        Secret("too short")
    assert "too short" not in str(caught.value)
    assert "litecast keygen" in str(caught.value)


def test_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(TEXT))
    with pytest.raises(TypeError):
        copy.copy(Secret(TEXT))


def test_secrets_compare_by_their_text() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert hash(Secret(TEXT)) == hash(Secret(TEXT))
    assert Secret(TEXT) != Secret(TEXT + "!")
    assert Secret(TEXT) != TEXT


def test_same_input_gives_the_same_keys_for_ever() -> None:
    """A value that changes locks a new release out of a running cluster."""
    extracted = hmac.digest(b"c", TEXT.encode(), "sha256")  # RFC 5869, section 2.2, and one block of section 2.3
    expanded = hmac.digest(extracted, b"p\x01", "sha256")
    assert derive(Secret(TEXT), "c", "p") == expanded
    assert expanded.hex() == "b8c0f362476dda2c5dc7d2b8bbf092e2c52f23d0fc75780307b7afb8335432db"


def test_every_part_of_the_input_changes_the_key() -> None:
    parts = itertools.product([TEXT, TEXT + "!"], ["c", "d"], ["p", "q"])
    derived = {derive(Secret(text), cluster, purpose) for text, cluster, purpose in parts}
    assert len(derived) == 8
    assert all(len(key) == 32 for key in derived)


def test_the_two_sides_have_pairs_of_their_own() -> None:
    keys = derive_curve_keys(Secret(TEXT), "c")
    assert keys == derive_curve_keys(Secret(TEXT), "c")
    assert zmq.curve_public(keys.server_secret) == keys.server_public
    assert zmq.curve_public(keys.client_secret) == keys.client_public
    assert len({keys.server_public, keys.server_secret, keys.client_public, keys.client_secret}) == 4


def test_only_the_clusters_own_dialling_key_is_admitted() -> None:
    keys = derive_curve_keys(Secret(TEXT), "c")
    assert keys.admits(z85.decode(keys.client_public))
    stranger, _ = zmq.curve_keypair()
    for public in (stranger, keys.server_public, derive_curve_keys(Secret(TEXT), "d").client_public):
        assert not keys.admits(z85.decode(public))
    assert not keys.admits(b"")


def test_made_secrets_are_long_and_never_the_same() -> None:
    made = {make_secret() for _ in range(50)}
    assert len(made) == 50
    for text in made:
        assert len(text) == 64
        assert Secret(text).reveal() == text
        int(text, 16)


def test_secret_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"  {TEXT}\n")
    assert read_secret_file(path).reveal() == TEXT


@pytest.mark.parametrize("case", ["missing", "folder", "empty", "not text", "short"])
def test_secret_file_that_cannot_serve_is_one_line_with_a_remedy(tmp_path: Path, case: str) -> None:
    path = tmp_path / "secret"
    match case:
        case "folder":
            path.mkdir()
        case "empty":
            path.write_text("\n")
        case "not text":
            path.write_bytes(b"\xff\xfe" * 40)
        case "short":
            path.write_text("short")
        case _:
            pass
    with pytest.raises(SecretError) as caught:
        read_secret_file(path)
    assert "\n" not in str(caught.value)
    assert "litecast keygen" in str(caught.value)
    assert str(path) in str(caught.value) or case == "short"


def test_file_that_everybody_may_read_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(TEXT)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert not is_readable_by_others(path)
    path.chmod(0o644)
    assert is_readable_by_others(path)
