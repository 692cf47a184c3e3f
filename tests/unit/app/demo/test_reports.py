"""What a person sees: the terminal, the report and its charts."""

import dataclasses
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from app.config import Mode
from app.demo.chart import chart, ticks
from app.demo.clusters import modes_of
from app.demo.plan import NAMES, Act, Options, Plan
from app.demo.report import check_writable, report, write_report
from app.demo.results import ActResult, Mark, Sample, by_act
from app.demo.terminal import Terminal
from app.errors import AppError

PLAN = Plan(Options(clicks=300, seed=7))
APART = {"alpha": 120, "beta": 130, "gamma": 124}
EXACT = dict.fromkeys(APART, 300)


def result(act: Act, mode: Mode, counts: dict[str, int], expected: int = 300) -> ActResult:
    samples = tuple(
        Sample(at_s=at / 10, counts={name: count * at // 9 for name, count in counts.items()}, expected=expected)
        for at in range(10)
    )
    naive_collision = act is Act.COLLISION and mode is Mode.NAIVE
    return ActResult(
        act=act,
        mode=mode,
        page="blog-<1>",
        expected=expected,
        counts=counts,
        subject=("alpha", "beta"),
        crashes=3 if naive_collision else 0,
        dropped=44 if naive_collision else 0,
        converged_s=None if mode in (Mode.NONE, Mode.NAIVE) else 0.031,
        pages_beside=3,
        samples=samples,
        marks=(Mark(at_s=0.3, text="beta is killed"), Mark(at_s=0.8, text="beta is back")),
    )


RESULTS = [
    result(act, mode, APART if mode in (Mode.NONE, Mode.NAIVE) else EXACT) for act in Act for mode in modes_of(act, 3)
]


def played(results: list[ActResult] = RESULTS, *, story: bool = True, width: int = 80) -> str:
    stream = io.StringIO()
    terminal = Terminal(Console(file=stream, width=width, highlight=False, markup=False, emoji=False), story=story)
    terminal.begins(PLAN)
    for runs in by_act(results):
        terminal.act_begins(runs[0].act)
        terminal.step("doing it")
        terminal.act_ended(runs)
    terminal.ends(PLAN, results)
    terminal.kept({mode: {"alpha": f"http://127.0.0.1:{port}"} for mode, port in (("naive", 12345), ("convergent", 2))})
    terminal.node_ended("naive", "alpha", "it was ended by SIGKILL")
    terminal.pause()
    return stream.getvalue()


def test_a_terminal_of_80_columns_shows_every_act_and_no_line_is_longer() -> None:
    text = played()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert all(name in text for name in NAMES.values())
    assert "170 of 300 views (57%)" in text
    assert "--seed 7" in text
    assert "http://127.0.0.1:12345/cluster" in text
    assert "http://127.0.0.1:2/cluster" in text
    assert "alpha (naive) stopped" in text


def test_the_runs_of_an_act_stand_side_by_side() -> None:
    third = played().split("Act 3")[1].split("Act 4")[0]
    assert re.search(r"alpha ams +120 \(−180\) +█+·+ +300 +█+", third)
    assert re.search(r"lost +170 +0 ", third)
    assert re.search(r"drift +10 +0 ", third)
    assert re.search(r"equal after +never +31 ms", third)


def test_an_act_fits_a_screen_of_24_lines() -> None:
    for number, text in enumerate(re.split(r"(?m)^Act \d", played().split("What became of the counts")[0])[1:], 1):
        assert len(f"Act{text}".strip().splitlines()) <= 24, number


def test_nine_nodes_and_large_counts_fit_80_columns_too() -> None:
    plan = Plan(Options(nodes=9, clicks=10_000, seed=1))
    naive, convergent = (
        dataclasses.replace(one, expected=10_000, counts=dict.fromkeys(plan.names, count))
        for one, count in ((RESULTS[-2], 1_234), (RESULTS[-1], 10_000))
    )
    text = played([naive, convergent])
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "1,234 (−8,766)" in text


def test_what_is_no_terminal_gets_no_colours() -> None:
    assert "\x1b" not in played()


def test_the_last_table_has_a_line_for_each_act() -> None:
    table = played().split("What became of the counts")[1]
    assert re.findall(r"^ *(\d) ", table, re.MULTILINE) == ["1", "2", "3", "4", "5", "6"]
    said = " ".join(table.split())
    assert "1 no replication 300 none: 170 lost, 10 apart 2 gentle" in said
    assert "300 170 lost, 10 apart 0 lost 31 ms 0 lost 31 ms" in said
    assert "300 0 lost 31 ms" in said.partition("6 the primary is")[2].replace("killed ", "")


def test_a_broken_promise_is_in_the_table_and_in_the_end() -> None:
    broken = [dataclasses.replace(one, counts=APART, converged_s=None) for one in RESULTS[-3:]]
    text = " ".join(played([*RESULTS[:-3], *broken]).split())
    assert "never" in text.partition("What became of the counts")[2]
    assert "Convergent: the promise was broken in act 5: 170 lost, 10 apart in act 5" in text
    assert "Primary: the promise was broken in act 5 and act 6" in text


def test_beside_json_only_progress_is_told() -> None:
    text = played(story=False)
    assert "act 3 of 6: doing it" in text
    assert "act 3, naive: expected 300, lost 170, drift 10, equal after never" in text
    assert "act 3, convergent: expected 300, lost 0, drift 0, equal after 31 ms" in text
    assert "Concurrency" not in text
    assert "╭" not in text


def test_the_report_loads_nothing_and_escapes_what_it_shows() -> None:
    page = report(PLAN, RESULTS)
    assert not re.search(r"(src|href)=|url\(|@import|https?://", page)
    assert "blog-<1>" not in page
    assert "blog-&lt;1&gt;" in page
    assert page.count("<svg") == 14
    assert page.count("<h3>naive</h3>") == page.count("<h3>convergent</h3>") == 4
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


@pytest.mark.parametrize("one", RESULTS, ids=lambda one: f"{one.act.name}-{one.mode}")
def test_a_chart_is_well_formed_and_has_a_line_for_each_node_and_one_for_what_was_answered(one: ActResult) -> None:
    paths = [element.attrib["class"] for element in ET.fromstring(chart(one)).iter("path")]
    assert paths == ["line n0", "line n1", "line n2", "answered"]
    assert "beta is killed" in chart(one)


def test_charts_that_stand_side_by_side_have_the_same_scales() -> None:
    naive, convergent = RESULTS[-2:]
    ticks_of = [re.findall(r'class="tick".*', chart(run, [naive, convergent])) for run in (naive, convergent)]
    assert ticks_of[0] == ticks_of[1]
    assert ticks_of[0] != re.findall(r'class="tick".*', chart(naive))


def test_a_chart_without_samples_is_still_one() -> None:
    empty = ActResult(act=Act.ALONE, mode=Mode.NONE, page="p", expected=0, counts={"alpha": 0})
    assert ET.fromstring(chart(empty)).tag == "svg"


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (0, [0]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (2, [0, 0.5, 1, 1.5, 2]),
        (300, [0, 100, 200, 300]),
        (4.4, [0, 1, 2, 3, 4]),
    ],
)
def test_ticks_are_round_and_few(highest: float, expected: list[float]) -> None:
    assert ticks(highest) == expected


def test_the_report_is_written(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", PLAN, RESULTS)
    assert "<!doctype html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_looking_whether_a_report_can_be_written_changes_nothing(tmp_path: Path) -> None:
    there = tmp_path / "there.html"
    there.write_text("mine")
    check_writable(there)
    check_writable(tmp_path / "absent.html")
    assert there.read_text() == "mine"
    assert not (tmp_path / "absent.html").exists()


@pytest.mark.parametrize("path", ["missing/report.html", "."])
def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path, path: str) -> None:
    with pytest.raises(AppError, match=r"^--html: .* cannot be written \(.*\); give a file"):
        check_writable(tmp_path / path)
