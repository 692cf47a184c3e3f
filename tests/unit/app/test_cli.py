"""The command line: one line per error, and an exit status that tells which kind it was."""

import argparse
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from app import cli
from app.errors import AppError
from cluster.errors import BindError
from replication.errors import ReplicationError

ROOT = Path(__file__).parents[3]
LITECAST = [sys.executable, "-c", "from app.cli import main; raise SystemExit(main())"]


class FakeCommand:
    """A command named `keygen` that does what a test says."""

    def __init__(self, action: Callable[[], int]) -> None:
        self._action = action

    def register(self, subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        subparsers.add_parser("keygen")

    def run(self, args: argparse.Namespace) -> int:
        return self._action()


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], int]], int]:
    """Runs `litecast keygen` with another action in its place."""

    def run(action: Callable[[], int]) -> int:
        monkeypatch.setattr(cli, "_command", lambda name: FakeCommand(action))
        return cli.main(["keygen"])

    return run


def raising(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"litecast {version}\n"


def test_help_lists_every_command_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    modules = {path.stem.replace("_", "-") for path in (ROOT / "app/commands").glob("*.py")}
    for name in modules & set(cli.COMMANDS):
        assert f"    {name}" in text.split("commands:")[1]


def test_no_command_is_a_usage_error_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: litecast" in capsys.readouterr().err


def test_unknown_command_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["keygne"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "error",
    [AppError("no good:\n  do this"), BindError("no good: do this"), ReplicationError("no good: do this")],
)
def test_error_of_any_layer_is_one_line_and_status_1(
    run_command: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert run_command(raising(error)) == 1
    assert capsys.readouterr().err == "litecast: no good: do this\n"


def test_error_that_a_task_group_wrapped_is_one_line_too(
    run_command: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = ExceptionGroup("tasks", [ExceptionGroup("inner", [AppError("no good")])])
    assert run_command(raising(wrapped)) == 1
    assert capsys.readouterr().err == "litecast: no good\n"


def test_bug_of_ours_is_not_hidden(run_command: Callable[[Callable[[], int]], int]) -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)
    with pytest.raises(ExceptionGroup):
        run_command(raising(ExceptionGroup("tasks", [AppError("no good"), KeyError("ours")])))


def test_ctrl_c_ends_quietly_with_130(
    run_command: Callable[[Callable[[], int]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == ""


def test_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen([*LITECAST, "keygen"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 141


def test_keygen_prints_64_hex_digits_and_never_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keygen"]) == 0
    assert cli.main(["keygen"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first != second
    assert len(bytes.fromhex(first)) == 32


def test_keygen_writes_a_file_that_only_its_owner_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cluster.secret"
    assert cli.main(["keygen", "--output", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(bytes.fromhex(file.read_text())) == 32
    assert capsys.readouterr().out == ""


def test_keygen_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cluster.secret"
    file.write_text("precious")
    assert cli.main(["keygen", "--output", str(file)]) == 1
    assert file.read_text() == "precious"
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["keygen", "--output", str(tmp_path / "no" / "folder")]) == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_light_commands_do_not_load_the_web_server_or_the_bus() -> None:
    code = "import sys\nfrom app.cli import main\nmain(['{}'])\nprint(*sys.modules)"
    heavy = {"starlette", "uvicorn", "httpx", "rich"}
    loaded = subprocess.run(
        [sys.executable, "-c", code.format("keygen")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not heavy & set(loaded.stdout.split())


def test_a_process_that_has_just_used_an_object_store_ends_with_its_own_status(tmp_path: Path) -> None:
    """More than every second one was aborted without it, on a machine with two cores."""
    code = (
        "import asyncio, sys\n"
        "from app import cli\n"
        "from obstore import list_with_delimiter_async\n"
        "from obstore.store import LocalStore\n"
        "async def look():\n"
        "    await list_with_delimiter_async(LocalStore(sys.argv[1]))\n"
        "    return 7\n"
        "cli.main = lambda _: print('done') or asyncio.run(look())\n"
        "cli.program()\n"
    )
    for _ in range(8):
        done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (7, "done\n", "")
