"""`litecast keygen --if-missing`: whoever comes first makes the secret, and everybody may ask for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from app import cli

ROOT = Path(__file__).parents[3]
KEYGEN = (
    "import sys; from app.cli import main; raise SystemExit(main(['keygen', '--if-missing', '--output', sys.argv[1]]))"
)


def test_secret_that_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "cluster.secret"
    assert cli.main(["keygen", "--if-missing", "--output", str(file)]) == 0
    made = file.read_text()
    assert cli.main(["keygen", "--if-missing", "--output", str(file)]) == 0
    assert file.read_text() == made
    assert list(tmp_path.iterdir()) == [file]


def test_many_at_once_make_one_secret_and_none_fails(tmp_path: Path) -> None:
    file = tmp_path / "cluster.secret"
    makers = [subprocess.Popen([sys.executable, "-c", KEYGEN, str(file)], cwd=ROOT) for _ in range(5)]
    assert [maker.wait(30) for maker in makers] == [0] * 5
    assert len(bytes.fromhex(file.read_text())) == 32
    assert list(tmp_path.iterdir()) == [file]


def test_folder_in_the_place_of_the_secret_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keygen", "--if-missing", "--output", str(tmp_path)]) == 1
    assert f"litecast: {tmp_path}" in capsys.readouterr().err


def test_if_missing_without_a_file_is_an_error_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keygen", "--if-missing"]) == 1
    assert "--if-missing needs --output FILE" in capsys.readouterr().err
