"""`litecast demo` as somebody runs it: real processes, and nothing left behind however it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

LITECAST = Path(sys.executable).parent / "litecast"
KEYS = {"act", "name", "mode", "page", "expected", "counts", "lost", "drift", "crashes", "dropped", "converged_s"}
WITHIN_S = 180.0  # a demo takes less than half of that, but for a very busy machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * WITHIN_S),
    pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc"),
]


@dataclass
class Demo:
    """A demo that runs, with what it has said so far. Its temporary files are below `folder`."""

    process: subprocess.Popen[str]
    folder: Path
    said: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    def listen(self) -> list[threading.Thread]:
        pipes = ((self.process.stderr, self.said), (self.process.stdout, self.printed))
        threads = [
            threading.Thread(target=lambda p=pipe, k=kept: k.extend(iter(p.readline, ""))) for pipe, kept in pipes
        ]
        for thread in threads:
            thread.start()
        return threads


def until(condition: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.005)


def processes_of(folder: Path) -> list[tuple[int, str]]:
    """The ids and command lines of all processes that have a file below this folder among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append((int(entry.name), command))
    return found


def _gone(folder: Path) -> bool:
    return not processes_of(folder)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[tuple[Demo, list[threading.Thread]]] = []

    def start(*options: str) -> Demo:
        folder = tmp_path / f"tmp{len(started)}"
        folder.mkdir()
        process = subprocess.Popen(
            [str(LITECAST), "demo", "--seed", "1", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
            cwd=tmp_path,
        )
        running = Demo(process, folder)
        started.append((running, running.listen()))
        return running

    yield start
    for running, threads in started:
        running.process.kill()
        running.process.wait()
        for thread in threads:
            thread.join()
        for pipe in (running.process.stdout, running.process.stderr):
            assert pipe is not None
            pipe.close()
        until(partial(_gone, running.folder), "no process is left")


def nothing_is_left_of(demo: Demo) -> None:
    assert processes_of(demo.folder) == []
    assert list(demo.folder.iterdir()) == []


def ended(demo: Demo) -> int:
    return demo.process.wait(WITHIN_S)


def test_the_demo_tells_its_six_acts_as_json_and_leaves_nothing(demo: Callable[..., Demo], tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    running = demo("--json", "--clicks", "60", "--html", str(report))
    assert ended(running) == 0, running.said
    nothing_is_left_of(running)
    until(lambda: "".join(running.printed).endswith("}\n"), "all is read")
    printed = json.loads("".join(running.printed))
    assert list(printed) == ["acts"]
    acts: list[dict[str, Any]] = printed["acts"]
    assert [(act["act"], act["mode"]) for act in acts] == [
        (1, "none"),
        *((number, mode) for number in (2, 3, 4, 5) for mode in ("naive", "convergent", "primary")),
        (6, "primary"),
    ]
    assert len({act["page"] for act in acts}) == 6
    for act in acts:
        assert set(act) == KEYS
        counts = act["counts"].values()
        assert len(counts) == 3
        if act["act"] != 6:  # there may be views of which nobody knows
            assert act["lost"] == act["expected"] - max(counts)
        assert act["drift"] == max(counts) - min(counts)
    alone, gentle, concurrent, absent, collision = (acts[0], *acts[1:13:3])
    assert alone["expected"] == 60 == sum(alone["counts"].values())
    assert alone["drift"] > 0
    assert (gentle["expected"], gentle["lost"], gentle["drift"]) == (30, 0, 0)
    assert concurrent["expected"] == 60
    assert concurrent["lost"] > 0
    assert concurrent["crashes"] == 0
    assert sorted(absent["counts"].values()) == [10, 40, 40]
    assert collision["expected"] == 2
    assert [act["converged_s"] for act in (alone, concurrent, absent)] == [None] * 3
    for naive, convergent in [
        *zip(acts[1:13:3], acts[2:13:3], strict=True),
        *zip(acts[1:13:3], acts[3:13:3], strict=True),
    ]:
        assert (convergent["page"], convergent["expected"]) == (naive["page"], naive["expected"])
        assert set(convergent["counts"].values()) == {convergent["expected"]}
        assert (convergent["lost"], convergent["drift"]) == (0, 0)
        assert (convergent["crashes"], convergent["dropped"]) == (0, 0)
        assert 0 <= convergent["converged_s"] < 20
    killed = acts[-1]
    assert killed["lost"] == killed["drift"] == 0
    assert killed["expected"] > 50
    html = report.read_text(encoding="utf-8")
    assert html.count("<svg") == 14
    assert html.count("<h3>convergent</h3>") == 4
    assert not re.search(r"(src|href)=|https?://", html)


MOMENTS = [
    "starting 2 nodes with replication mode none",
    "act 1 of 5",
    "starting 2 nodes with replication mode convergent",
    "convergent: killing",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_at_any_moment_leaves_nothing(demo: Callable[..., Demo], moment: str) -> None:
    running = demo("--json", "--clicks", "200", "--nodes", "2")
    until(lambda: moment in "".join(running.said), moment)
    running.process.send_signal(signal.SIGINT)
    assert ended(running) == 128 + signal.SIGINT
    nothing_is_left_of(running)
    assert running.printed == []
    assert "Traceback" not in "".join(running.said)


def test_ctrl_c_as_soon_as_there_is_anything_leaves_nothing(demo: Callable[..., Demo]) -> None:
    running = demo("--json")
    until(lambda: list(running.folder.iterdir()), "its folder")
    running.process.send_signal(signal.SIGINT)
    assert ended(running) == 128 + signal.SIGINT
    nothing_is_left_of(running)


def test_sigterm_and_an_impatient_second_ctrl_c_leave_nothing(demo: Callable[..., Demo]) -> None:
    running = demo("--json", "--nodes", "2")
    until(lambda: "act 2 of 5" in "".join(running.said), "act 2")
    running.process.send_signal(signal.SIGTERM)
    running.process.send_signal(signal.SIGINT)
    assert ended(running) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    nothing_is_left_of(running)


def test_nodes_do_not_outlive_a_demo_that_is_killed_outright(demo: Callable[..., Demo]) -> None:
    running = demo("--json", "--nodes", "2")
    until(lambda: "act 2 of 5" in "".join(running.said), "act 2")
    assert len(processes_of(running.folder)) == 4
    running.process.kill()
    running.process.wait()
    until(lambda: not processes_of(running.folder), "the nodes end")


def test_keep_leaves_both_clusters_to_look_at_until_ctrl_c(
    demo: Callable[..., Demo], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever has settings of a node of his own in the environment sees the demo's nodes all the same.
    monkeypatch.setenv("LITECAST_NODE__NAME", "same-for-all")
    monkeypatch.setenv("FLY_REGION", "lhr")
    running = demo("--keep", "--clicks", "20", "--nodes", "2")
    until(lambda: "Ctrl-C stops them" in "".join(running.printed), "its addresses")
    pages = re.findall(r"http://127\.0\.0\.1:\d+/cluster", "".join(running.printed))
    assert len(pages) == 4
    modes = []
    for page in pages:
        assert httpx.get(page, trust_env=False).status_code == 200
        modes.append(httpx.get(page.replace("/cluster", "/api/cluster"), trust_env=False).json()["mode"])
    assert modes == ["naive", "naive", "convergent", "convergent"]
    running.process.send_signal(signal.SIGINT)
    assert ended(running) == 0
    nothing_is_left_of(running)


@pytest.mark.parametrize("options", [["--nodes", "1"], ["--nodes", "10"], ["--clicks", "0"], ["--clicks", "many"]])
def test_a_wrong_option_is_2_and_says_what_is_right(demo: Callable[..., Demo], options: list[str]) -> None:
    running = demo(*options)
    assert ended(running) == 2
    until(lambda: "is not a whole number from" in "".join(running.said), "the reason")


def test_a_report_that_cannot_be_written_is_said_before_anything_starts(demo: Callable[..., Demo]) -> None:
    running = demo("--html", "missing/report.html")
    assert ended(running) == 1
    until(lambda: running.said, "the reason")
    (line,) = running.said
    assert line.startswith("litecast: --html: missing/report.html cannot be written")
    assert running.printed == []
    nothing_is_left_of(running)


def test_a_naive_node_that_ends_by_itself_is_told_and_started_again(demo: Callable[..., Demo]) -> None:
    running = demo("--clicks", "20", "--json", "--nodes", "2")
    until(lambda: "act 2 of 5: naive" in "".join(running.said), "act 2")
    victim = next(pid for pid, command in processes_of(running.folder) if "/naive/" in command)
    os.kill(victim, signal.SIGKILL)
    assert ended(running) == 0, running.said
    nothing_is_left_of(running)
    until(lambda: "".join(running.printed).endswith("}\n"), "all is read")
    assert len(json.loads("".join(running.printed))["acts"]) == 9
