"""`litecast backup list` and `litecast restore` of an encrypted place: the secret comes as a node has it."""

import asyncio
from pathlib import Path

import pytest

from app import cli
from app.backing_up import bucket_of
from app.config import load_config
from replication.backup.bucket import claim

SECRET = "correct horse battery staple, twice over"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A place that is a cluster's, encrypted, and has no snapshot yet."""
    (tmp_path / "config.toml").write_text(
        f'replication.mode = "convergent"\nbus.secret = "{SECRET}"\nbackup.url = "file://{tmp_path}/place"\n'
        "backup.encrypt = true\n"
    )
    config = load_config(tmp_path / "config.toml", {})
    assert config.backup.url is not None
    asyncio.run(claim(bucket_of(config, config.backup.url), config.cluster.name))
    return config.backup.url


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(list(arguments)) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert SECRET not in said
    return said


def test_without_the_secret_both_say_where_to_put_it_and_with_it_they_read(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out.db")
    for command in (("backup", "list", "--from", url), ("restore", "--from", url, out)):
        assert "is encrypted: give the cluster's secret" in refused(capsys, *command)
        with monkeypatch.context() as environment:
            environment.setenv("LITECAST_BUS__SECRET", "x" * 40)
            assert "no secret that is given here opens" in refused(capsys, *command)
    settings = str(tmp_path / "config.toml")
    assert cli.main(["backup", "list", "--config", settings]) == 0
    assert "is the backup of cluster litecast" in capsys.readouterr().out
    assert "has no complete snapshot" in refused(capsys, "restore", "--from", url, "--config", settings, out)
    monkeypatch.setenv("LITECAST_BUS__SECRET", SECRET)
    assert cli.main(["backup", "list", "--from", url]) == 0
    assert "has no complete snapshot" in refused(capsys, "restore", "--from", url, out)
    assert not Path(out).exists()


def test_settings_that_say_encrypted_refuse_a_place_that_is_plain(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "place" / "litecast.json").write_text('{"litecast backup": 1, "cluster": "litecast"}')
    settings = str(tmp_path / "config.toml")
    assert "is not encrypted, and" in refused(capsys, "backup", "list", "--config", settings)
    assert "is not encrypted, and" in refused(
        capsys, "restore", "--from", url, "--config", settings, str(tmp_path / "out.db")
    )
