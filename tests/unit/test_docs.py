"""What the documents say exists, and what exists is in the documents."""

import re
from pathlib import Path

import pytest

import cluster.wire as wire
from app.cli import COMMANDS
from cluster.counters import Count

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/DESIGN.md")])


def test_every_counter_is_documented() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    assert [count.value for count in Count if f"`{count.value}`" not in text] == []


def test_every_frame_and_message_is_documented_in_the_wire_format() -> None:
    text = wire.__doc__ or ""
    described = {int(number): name for number, name in re.findall(r"^ +(\d) ([A-Z]+) ", text, re.MULTILINE)}
    assert described == {kind.value: kind.name for kind in wire.FrameType}
    for number in range(6):
        assert f"[{number}, " in text


def test_every_command_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [command for command in COMMANDS if f"litecast {command}" not in text] == []


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_that_a_document_names_is_there(document: Path) -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", document.read_text()))
    assert sorted(name for name in named if f"def {name}(" not in sources) == []


@pytest.mark.parametrize("document", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_links_to_is_there(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
