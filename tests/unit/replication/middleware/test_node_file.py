"""What a node says to programs beside it, and when they stop believing it."""

import math
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from replication.middleware.node_file import (
    NodeFile,
    NodeFileError,
    NodeFileWriter,
    NodeSays,
    OtherNode,
    Standing,
    path_of,
)

SAYS = NodeSays(
    node="alpha",
    region="ams",
    url="http://127.0.0.1:1",
    primary="alpha",
    good_until_s=100.0,
    key=b"\x01\x02",
    is_secret=True,
    hold_s=5.0,
    visible_s=4.0,
    others={"beta": OtherNode(region="syd", url="http://[fdaa::3]:8080"), "gamma": OtherNode(region="iad", url=None)},
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    path.touch(mode=0o640)
    path.chmod(0o640)
    return path


def look(database: Path, *, now_s: float) -> Standing:
    found = NodeFile(database, clock=lambda: now_s).look()
    assert found is not None
    return found


def test_a_program_reads_what_the_node_said(database: Path) -> None:
    for says in (SAYS, replace(SAYS, good_until_s=math.inf, primary=None, others={})):
        NodeFileWriter(database).tell(says, awake_s=90.0)
        assert look(database, now_s=90.0) == Standing(says=says, may_write=True, is_awake=True)


def test_a_node_may_write_while_it_is_awake_and_its_lease_holds(database: Path) -> None:
    writer = NodeFileWriter(database)
    writer.tell(SAYS, awake_s=90.0)
    assert look(database, now_s=90.9).may_write
    assert not look(database, now_s=91.1).may_write  # its last heartbeat is too old
    assert not look(database, now_s=91.1).is_awake
    writer.tell(SAYS, awake_s=99.9)
    assert look(database, now_s=99.95).may_write
    assert not look(database, now_s=100.1).may_write  # the lease has run out
    assert look(database, now_s=100.1).is_awake
    writer.tell(replace(SAYS, good_until_s=0.0, primary="beta"), awake_s=99.9)
    assert not look(database, now_s=99.95).may_write


def test_a_file_from_before_the_machine_was_started_again_is_no_heartbeat(database: Path) -> None:
    NodeFileWriter(database).tell(replace(SAYS, good_until_s=math.inf), awake_s=5_000.0)
    assert not look(database, now_s=20.0).may_write


def test_a_heartbeat_writes_no_data(database: Path) -> None:
    writer = NodeFileWriter(database)
    writer.tell(SAYS, awake_s=90.0)
    before = path_of(database).stat().st_ino
    writer.tell(SAYS, awake_s=91.0)
    assert path_of(database).stat().st_ino == before
    assert look(database, now_s=91.9).may_write


def test_a_program_that_goes_on_reading_sees_each_change(database: Path) -> None:
    writer, file = NodeFileWriter(database), NodeFile(database, clock=lambda: 90.0)
    for number in range(50):
        says = replace(SAYS, primary=f"n{number}")
        writer.tell(says, awake_s=90.0)
        found = file.look()
        assert found is not None
        assert found.says == says


def test_no_two_files_or_heartbeats_have_one_time_and_a_reader_tells_them_apart(database: Path) -> None:
    writer, times = NodeFileWriter(database), set[int]()
    for number in range(100):
        writer.tell(replace(SAYS, primary=f"n{number // 2}"), awake_s=90.0)
        times.add(path_of(database).stat().st_mtime_ns)
    assert len(times) == 100


def test_who_can_read_the_database_can_read_it_and_nobody_else(database: Path) -> None:
    NodeFileWriter(database).tell(SAYS, awake_s=1.0)
    assert stat.S_IMODE(path_of(database).stat().st_mode) == 0o640


def test_where_no_node_ever_ran_there_is_nothing(tmp_path: Path) -> None:
    assert NodeFile(tmp_path / "app.db").look() is None


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b'{"version": 2}', b"null"])
def test_what_no_node_of_this_version_wrote_is_told(database: Path, text: bytes) -> None:
    path_of(database).write_bytes(text)
    with pytest.raises(NodeFileError, match="is not what this version's nodes write"):
        NodeFile(database).look()


def test_a_file_that_cannot_be_read_is_told(database: Path) -> None:
    os.mkdir(path_of(database))  # noqa: PTH102
    with pytest.raises(NodeFileError, match="cannot be read"):
        NodeFile(database).look()
