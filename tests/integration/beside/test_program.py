"""The program's process, with real programs."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.beside.program import Program, ProgramNotStarted
from tests.support.eventually import eventually


class Running:
    """Starts programs as a node does, and ends what is left of them."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output"
        self.programs: list[Program] = []

    def start(self, *command: str) -> Program:
        program = Program(command)
        self.programs.append(program)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, program.child_ended)
        program.start(os.environ | {"OUTPUT": str(self.output)})
        return program

    def shell(self, script: str) -> Program:
        return self.start("sh", "-c", script)

    def python(self, script: str) -> Program:
        return self.start(sys.executable, "-c", f"import os, signal, time\n{script}")

    @property
    def said(self) -> list[str]:
        return self.output.read_text().split() if self.output.exists() else []

    async def until_said(self, *words: str) -> None:
        await eventually(lambda: self.said == list(words), why=lambda: self.said)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path)
    yield running
    for program in running.programs:
        await program.stop(within_s=0)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -INT $$", 130)],
)
async def test_exit_status_is_what_a_shell_says(running: Running, script: str, status: int) -> None:
    program = running.shell(script)
    assert await program.ended() == status
    assert not program.is_running


async def test_what_is_no_program_ends_as_in_a_shell(running: Running, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    assert await running.start("/nowhere/program").ended() == 127
    assert await running.start(str(tmp_path / "text")).ended() == 126


async def test_the_node_hands_on_its_standard_streams_and_nothing_else(running: Running) -> None:
    inherited = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        program = running.shell("ls /proc/$$/fd > $OUTPUT; exit 0")
        await program.ended()
    finally:
        os.close(inherited)
    assert str(inherited) not in running.said
    assert {"0", "1", "2"} <= set(running.said)


LISTENS = """
def note(number, frame):
    with open(os.environ["OUTPUT"], "a") as output:
        print(signal.Signals(number).name, file=output)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
    signal.signal(number, note)
"""


async def test_signals_arrive_in_order_and_once(running: Running) -> None:
    program = running.python(LISTENS + "open(os.environ['OUTPUT'], 'w').write('ready ')\nwhile True: time.sleep(60)")
    await running.until_said("ready")
    expected = ["ready"]
    for name in ("SIGUSR1", "SIGHUP", "SIGINT", "SIGTERM", "SIGUSR2", "SIGQUIT"):
        program.send(signal.Signals[name])
        expected.append(name)
        await running.until_said(*expected)


CHILD_AND_PARENT = """
ready, told = os.pipe()
if os.fork() == 0:
    os.write(told, b"x")
    while True: time.sleep(60)
os.read(ready, 1)
open(os.environ["OUTPUT"], "w").write("ready ")
while True: time.sleep(60)
"""


async def test_what_ctrl_c_sends_reaches_the_whole_group_and_other_signals_the_program_alone(running: Running) -> None:
    program = running.python(LISTENS + CHILD_AND_PARENT)
    await running.until_said("ready")
    program.send(signal.SIGINT)
    await running.until_said("ready", "SIGINT", "SIGINT")
    program.send(signal.SIGHUP)
    program.send(signal.SIGUSR1)
    await eventually(lambda: sorted(running.said[3:]) == ["SIGHUP", "SIGUSR1"], why=lambda: running.said)


async def test_stop_asks_first(running: Running) -> None:
    program = running.shell(
        "trap 'echo asked > $OUTPUT; exit 3' TERM; echo ready > $OUTPUT; while :; do sleep 0.05; done"
    )
    await running.until_said("ready")
    await program.stop()
    assert running.said == ["asked"]
    assert await program.ended() == 3


async def test_who_does_not_stop_when_asked_is_killed_after_a_while(running: Running) -> None:
    program = running.shell("trap '' TERM; echo ready > $OUTPUT; while :; do sleep 0.05; done")
    await running.until_said("ready")
    await program.stop(within_s=0.2)
    assert await program.ended() == 137


async def test_what_the_program_left_in_its_group_is_ended_too(running: Running) -> None:
    program = running.shell("sleep 600 & echo $! > $OUTPUT")
    assert await program.ended() == 0
    left = int(running.said[0])
    assert is_there(left)
    await program.stop()
    assert not is_there(left)


async def test_stopping_what_has_ended_or_was_never_started_does_nothing(running: Running) -> None:
    await Program(["true"]).stop()
    program = running.shell("exit 4")
    assert await program.ended() == 4
    await program.stop()
    program.send(signal.SIGTERM)
    assert await program.ended() == 4


async def test_a_system_without_room_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", no_room)
    with pytest.raises(ProgramNotStarted, match=r"true cannot be started \(Resource temporarily unavailable\)"):
        Program(["true"]).start({})
