"""The cluster's secret: where it may stand, and that no message ever shows it."""

from pathlib import Path

import pytest

from app.config import Config, load_config
from app.errors import ConfigError

SECRET = "correct horse battery staple, twice over"


def load(folder: Path, text: str, **environ: str) -> Config:
    file = folder / "config.toml"
    file.write_text(text)
    return load_config(file, environ)


def revealed(config: Config) -> str | None:
    return None if config.bus.secret is None else config.bus.secret.reveal()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A file with the secret, beside the configuration, that only its owner can read."""
    file = tmp_path / "cluster.secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    return file


def test_secret_of_a_file_is_read_without_its_line_end(tmp_path: Path, secret_file: Path) -> None:
    config = load(tmp_path, '[bus]\nsecret_file = "cluster.secret"')
    assert revealed(config) == SECRET
    assert config.bus.secret_file == secret_file
    assert config.warnings == ()


def test_secret_file_that_everybody_can_read_is_warned_of(tmp_path: Path, secret_file: Path) -> None:
    secret_file.chmod(0o644)
    config = load(tmp_path, '[bus]\nsecret_file = "cluster.secret"')
    (warning,) = config.warnings
    assert warning.endswith(f"chmod 600 {secret_file}")
    assert revealed(config) == SECRET


def test_secret_and_secret_file_in_one_place_are_one_too_many(tmp_path: Path, secret_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[bus\] secret_file is given, and \[bus\] secret too: keep one of the two"):
        load(tmp_path, f'[bus]\nsecret_file = "cluster.secret"\nsecret = "{SECRET}"')


def test_stronger_place_decides_between_secret_and_secret_file(tmp_path: Path, secret_file: Path) -> None:
    filed = '[bus]\nsecret_file = "cluster.secret"'
    config = load(tmp_path, filed, LITECAST_BUS__SECRET="e" * 32)
    assert (revealed(config), config.bus.secret_file) == ("e" * 32, None)
    config = load(tmp_path, f'[bus]\nsecret = "{"t" * 32}"', LITECAST_BUS__SECRET_FILE="cluster.secret")
    assert (revealed(config), config.bus.secret_file) == (SECRET, secret_file)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "empty"), (b" \n", "empty"), (b"\xff" * 40, "UTF-8"), (b"x", "1 char")],
)
def test_secret_file_that_cannot_serve_is_refused_with_the_remedy(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "cluster.secret").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, '[bus]\nsecret_file = "cluster.secret"')
    assert str(caught.value).startswith(f"{tmp_path}/config.toml: [bus] secret_file: ")
    assert "litecast keygen" in str(caught.value)


def test_short_secret_is_refused_and_keygen_named_but_not_the_secret(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"config.toml: \[bus\] secret .* 6 characters.* 'litecast keygen'$"
    ) as caught:
        load(tmp_path, '[bus]\nsecret = "hunter"')
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f'[bus]\nsecret = ["{SECRET}"]',
        f'[bus]\nsecret = {{a = "{SECRET}"}}',
        f'[bus]\nsecrte = "{SECRET}"',
        f'bus = "{SECRET}"',
        f'secret = "{SECRET}"',
        f'[bus]\nsecret = "{SECRET}',
        f"[bus]\nsecret = {SECRET}",
        f'[bsu]\nsecret = "{SECRET}"',
    ],
)
def test_no_refusal_shows_the_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "horse" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_configuration_in_a_log_does_not_show_the_secret(tmp_path: Path) -> None:
    config = load(tmp_path, f'[bus]\nsecret = "{SECRET}"')
    assert "horse" not in f"{config} {config!r} {config.bus}"


def test_encryption_without_a_secret_is_refused_with_the_remedy(tmp_path: Path) -> None:
    backup = '[replication]\nmode = "convergent"\n[backup]\nurl = "file:///srv/backup"\nencrypt = true'
    with pytest.raises(
        ConfigError, match=r"encrypt = true needs \[bus\] secret_file or \[bus\] secret.*litecast keygen"
    ):
        load(tmp_path, backup)
    config = load(tmp_path, f'[bus]\nsecret = "{SECRET}"\n{backup}\nold_secret = "{"o" * 32}"')
    assert config.backup.encrypt
    assert SECRET not in repr(config)
    assert "o" * 32 not in repr(config)
