"""Which node writes under which site is known after a restart, and a file that is damaged costs no more than that."""

import logging
from pathlib import Path

import pytest

from replication.convergent.directory import MEMBERS_FILE, Directory, Heard, MembersFile
from replication.engine.closing import FORGOTTEN
from replication.engine.stamps import Site

ONE = Heard(site=Site("a" * 32), address="tcp://127.0.0.1:1")
OTHER = Heard(site=Site("b" * 32), address="")


def opened(folder: Path) -> Directory:
    directory = Directory(MembersFile(folder))
    directory.open()
    return directory


def test_what_was_heard_is_there_again(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    assert directory.names() == []
    directory.hear("one", OTHER)
    directory.hear("one", ONE)
    directory.hear("other", OTHER)
    again = opened(tmp_path)
    assert (again.names(), again.get("one"), again.get("nobody")) == (["one", "other"], ONE, None)


def test_a_node_is_forgotten_as_long_as_it_writes_under_a_site_that_is(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    directory.hear("one", ONE)
    closed = {ONE.site: frozenset({FORGOTTEN}), OTHER.site: frozenset({})}
    assert directory.forgotten(closed) == {"one": ONE}
    directory.hear("one", OTHER)
    assert directory.forgotten(closed) == {}


@pytest.mark.parametrize("text", ["no json", "[]", '{"one": 1}', '{"one": {"site": "x", "address": ""}}'])
def test_a_damaged_file_is_logged_and_written_anew(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / MEMBERS_FILE).write_text(text)
    with caplog.at_level(logging.WARNING):
        directory = opened(tmp_path)
    assert "not known" in caplog.text
    directory.hear("one", ONE)
    assert opened(tmp_path).get("one") == ONE


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = Directory(MembersFile(tmp_path / "nowhere"))
    directory.open()
    with caplog.at_level(logging.WARNING):
        directory.hear("one", ONE)
    assert directory.get("one") == ONE
    assert "cannot be kept" in caplog.text
