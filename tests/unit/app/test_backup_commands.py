"""What keeps the commands that read a backup from beginning: one line, with what to do, and nothing touched."""

from pathlib import Path

import pytest

from app import cli
from app.commands.alone import alone_in_its_folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(list(arguments)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/x", "s3://"])
def test_a_url_that_names_no_store_is_refused_with_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    said = refused(capsys, "restore", "--from", url, str(tmp_path / "out.db"))
    assert "write s3://BUCKET/FOLDER, gs://" in said
    assert list(tmp_path.iterdir()) == []


def test_a_url_with_credentials_is_refused_and_does_not_repeat_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "s3://key:secret@bucket/x"
    said = refused(capsys, "restore", "--from", url, str(tmp_path / "out.db"))
    assert "leave them to the environment" in said
    assert "key:secret" not in said


def test_two_restores_at_once_in_a_folder_do_not_write_over_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "place").mkdir()
    restore = ("restore", "--from", f"file://{tmp_path}/place", str(tmp_path / "out.db"))
    with alone_in_its_folder(tmp_path / "another.db"):
        assert "another restore is making a file in" in refused(capsys, *restore)
    assert "has no complete snapshot" in refused(capsys, *restore)


def test_the_url_comes_from_the_settings_if_it_is_not_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, settings = tmp_path / "place", tmp_path / "config.toml"
    place.mkdir()
    settings.write_text(f'[replication]\nmode = "convergent"\n[backup]\nurl = "file://{place}"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LITECAST_BACKUP__URL", raising=False)
    for command in (("restore", str(tmp_path / "out.db")), ("backup", "list")):
        assert "--from URL, or a file with [backup] url" in refused(
            capsys, *command, "--config", _without_url(tmp_path)
        )
    restoring = ("restore", str(tmp_path / "out.db"), "--config", str(settings))
    assert f"file://{place} has no complete snapshot" in refused(capsys, *restoring)


def _without_url(folder: Path) -> str:
    settings = folder / "without.toml"
    settings.write_text("")
    return str(settings)


def test_who_only_reads_makes_no_folder_of_a_mistyped_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"file://{tmp_path}/mis%20typed/place"
    out = str(tmp_path / "out.db")
    for command in (("restore", out), ("backup", "list"), ("backup", "verify"), ("backup", "verify", "--sample")):
        said = refused(capsys, *command, "--from", url)
        assert f"there is no folder {tmp_path}/mis typed/place" in said
    assert list(tmp_path.iterdir()) == []
