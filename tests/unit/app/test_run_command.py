"""`litecast run` where nothing is started at all."""

from pathlib import Path

import pytest

from app import cli


@pytest.mark.parametrize("arguments", [[], ["--"], ["--config", "node.toml"]])
def test_without_a_program_it_says_how_to_name_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", *arguments])
    assert ended.value.code == 2
    assert "name the program after --: litecast run --config FILE -- CMD" in capsys.readouterr().err


def test_a_program_that_is_not_there_is_said_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("text")
    assert cli.main(["run", "--", "no-such-program-anywhere", "--flag"]) == 127
    assert cli.main(["run", "--", "./text"]) == 126
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("litecast: no-such-program-anywhere is not there; name the program after --")
    assert second.startswith("litecast: ./text is not a program that this user can run")
    assert not (tmp_path / "data").exists()


def test_settings_are_looked_at_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--config", str(tmp_path / "nowhere.toml"), "--", "true"]) == 1
    assert "there is no such file" in capsys.readouterr().err
