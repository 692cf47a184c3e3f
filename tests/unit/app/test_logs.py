"""The log: one record a line, for people or for programs, and no flood."""

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from app.logs import RepeatFilter, configure_logging


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


type Opened = tuple[logging.Logger, io.StringIO, Clock]


@pytest.fixture
def open_log() -> Iterator[Callable[[str, str], Opened]]:
    """Configures the log of this process, and puts back afterwards what pytest had there."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def opened(level: str, format: str) -> Opened:
        stream, clock = io.StringIO(), Clock()
        configure_logging(level, format, stream=stream, clock=clock)
        return logging.getLogger("cluster.bus"), stream, clock

    yield opened
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_is_one_line_with_time_level_logger_and_message(open_log: Callable[[str, str], Opened]) -> None:
    log, stream, _ = open_log("info", "text")
    log.info("peer %s is up", "beta")
    date, time, rest = stream.getvalue().split(maxsplit=2)
    assert (len(date), len(time)) == (10, 12)
    assert rest == "info    cluster.bus  peer beta is up\n"


def test_what_a_peer_sent_cannot_begin_a_line_or_colour_the_terminal(open_log: Callable[[str, str], Opened]) -> None:
    log, stream, _ = open_log("info", "text")
    log.info("hello from %s", "x\n2026-01-31 forged \x1b[31m é")
    assert stream.getvalue().endswith("hello from x\\n2026-01-31 forged \\x1b[31m é\n")
    assert stream.getvalue().count("\n") == 1


def test_json_is_one_object_a_line_with_what_extra_gave(open_log: Callable[[str, str], Opened]) -> None:
    log, stream, _ = open_log("info", "json")
    log.warning("peer %s\nis gone", "beta", extra={"peer": "beta", "address": object})
    entry = json.loads(stream.getvalue())
    assert entry["time"].endswith("+00:00")
    assert entry["level"] == "warning"
    assert entry["logger"] == "cluster.bus"
    assert entry["message"] == "peer beta\nis gone"
    assert entry["peer"] == "beta"
    assert set(entry) == {"time", "level", "logger", "message", "peer", "address"}


@pytest.mark.parametrize("format", ["text", "json"])
def test_traceback_is_kept(open_log: Callable[[str, str], Opened], format: str) -> None:
    log, stream, _ = open_log("info", format)
    try:
        raise KeyError("ours")
    except KeyError:
        log.exception("an actor crashed")
    assert "KeyError: 'ours'" in stream.getvalue()


def test_lines_below_the_level_are_not_written(open_log: Callable[[str, str], Opened]) -> None:
    log, stream, _ = open_log("warning", "text")
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_configuring_twice_does_not_write_twice(open_log: Callable[[str, str], Opened]) -> None:
    open_log("info", "text")
    log, stream, _ = open_log("info", "text")
    log.info("once")
    assert stream.getvalue().count("once") == 1


def test_same_cause_is_written_once_per_interval_with_the_number_left_out(
    open_log: Callable[[str, str], Opened],
) -> None:
    log, stream, clock = open_log("info", "text")
    for _ in range(5):
        log.warning("refused", extra={"cause": "secret 10.0.0.7"})
    log.warning("refused", extra={"cause": "secret 10.0.0.8"})
    assert stream.getvalue().count("refused\n") == 2
    clock.now += 10
    log.warning("refused", extra={"cause": "secret 10.0.0.7"})
    assert stream.getvalue().endswith("refused (4 more like this were left out)\n")
    clock.now += 10
    log.warning("refused", extra={"cause": "secret 10.0.0.7"})
    assert stream.getvalue().endswith("refused\n")


def test_line_without_a_cause_is_always_written(open_log: Callable[[str, str], Opened]) -> None:
    log, stream, _ = open_log("info", "text")
    for _ in range(3):
        log.info("each time")
    assert stream.getvalue().count("each time") == 3


def test_causes_that_a_peer_makes_up_do_not_fill_the_memory() -> None:
    repeats = RepeatFilter(clock=Clock())
    for number in range(10_000):
        record = logging.makeLogRecord({"name": "cluster.bus", "cause": f"name {number}"})
        assert repeats.filter(record)
    assert len(repeats._seen) <= 1024
