"""What a person sees: the terminal, the report and its charts."""

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from app.demo.chart import chart, ticks
from app.demo.plan import Act, Options, Plan
from app.demo.report import check_writable, report, write_report
from app.demo.story import NAMES, ActResult, Mark, Sample
from app.demo.terminal import Terminal
from app.errors import AppError

PLAN = Plan(Options(clicks=300, seed=7))


def result(act: Act, expected: int = 300, **more: object) -> ActResult:
    counts = {"alpha": 120, "beta": 130, "gamma": 124}
    samples = tuple(
        Sample(at_s=at / 10, counts={name: count * at // 9 for name, count in counts.items()}, expected=expected)
        for at in range(10)
    )
    return ActResult(
        act=act,
        mode="naive",
        page="blog-<1>",
        expected=expected,
        counts=counts,
        subject=("alpha", "beta"),
        crashes=3 if act is Act.COLLISION else 0,
        samples=samples,
        marks=(Mark(at_s=0.3, text="beta is killed"), Mark(at_s=0.8, text="beta is back")),
    )


RESULTS = [result(act) for act in Act]


def played(*, story: bool = True, width: int = 80) -> str:
    stream = io.StringIO()
    terminal = Terminal(Console(file=stream, width=width, highlight=False, markup=False, emoji=False), story=story)
    terminal.begins(PLAN)
    for one in RESULTS:
        terminal.act_begins(one.act)
        terminal.step("doing it")
        terminal.act_ended(one)
    terminal.ends(PLAN, RESULTS)
    terminal.kept({"alpha": "http://127.0.0.1:12345"})
    terminal.pause()
    return stream.getvalue()


def test_a_terminal_of_80_columns_shows_every_act_and_no_line_is_longer() -> None:
    text = played()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert all(name in text for name in NAMES.values())
    assert "170 of 300 views (57%)" in text
    assert "120 (−180)" in text
    assert "--seed 7" in text
    assert "http://127.0.0.1:12345/cluster" in text


def test_what_is_no_terminal_gets_no_colours() -> None:
    assert "\x1b" not in played()


def test_the_last_table_has_a_line_for_each_act() -> None:
    table = played().split("What became of the counts")[1]
    assert re.findall(r"^ *(\d) ", table, re.MULTILINE)[:5] == ["1", "2", "3", "4", "5"]


def test_beside_json_only_progress_is_told() -> None:
    text = played(story=False)
    assert "act 3 of 5: doing it" in text
    assert "act 3: expected 300, lost 170, drift 10" in text
    assert "Concurrency" not in text
    assert "╭" not in text


def test_the_report_loads_nothing_and_escapes_what_it_shows() -> None:
    page = report(PLAN, RESULTS)
    assert not re.search(r"(src|href)=|url\(|@import|https?://", page)
    assert "blog-<1>" not in page
    assert "blog-&lt;1&gt;" in page
    assert page.count("<svg") == 5
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page


@pytest.mark.parametrize("one", RESULTS, ids=lambda one: one.act.name)
def test_a_chart_is_well_formed_and_has_a_line_for_each_node_and_one_for_what_was_answered(one: ActResult) -> None:
    paths = [element.attrib["class"] for element in ET.fromstring(chart(one)).iter("path")]
    assert paths == ["line n0", "line n1", "line n2", "answered"]
    assert "beta is killed" in chart(one)


def test_a_chart_without_samples_is_still_one() -> None:
    empty = ActResult(act=Act.ALONE, mode="none", page="p", expected=0, counts={"alpha": 0})
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
