"""The log: one record a line, for people or for programs."""

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from app.logs import configure_logging

type Opened = tuple[logging.Logger, io.StringIO]


@pytest.fixture
def open_log() -> Iterator[Callable[[str, str], Opened]]:
    """Configures the log of this process, and puts back afterwards what pytest had there."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def opened(level: str, format: str) -> Opened:
        stream = io.StringIO()
        configure_logging(level, format, stream=stream)
        return logging.getLogger("cluster.bus"), stream

    yield opened
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_is_one_line_with_time_level_logger_and_message(open_log: Callable[[str, str], Opened]) -> None:
    log, stream = open_log("info", "text")
    log.info("peer %s is up", "beta")
    date, time, rest = stream.getvalue().split(maxsplit=2)
    assert (len(date), len(time)) == (10, 12)
    assert rest == "info    cluster.bus  peer beta is up\n"


def test_what_a_peer_sent_cannot_begin_a_line_or_colour_the_terminal(open_log: Callable[[str, str], Opened]) -> None:
    log, stream = open_log("info", "text")
    log.info("hello from %s", "x\n2026-01-31 forged \x1b[31m é")
    assert stream.getvalue().endswith("hello from x\\n2026-01-31 forged \\x1b[31m é\n")
    assert stream.getvalue().count("\n") == 1


def test_json_is_one_object_a_line_with_what_extra_gave(open_log: Callable[[str, str], Opened]) -> None:
    log, stream = open_log("info", "json")
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
    log, stream = open_log("info", format)
    try:
        raise KeyError("ours")
    except KeyError:
        log.exception("an actor crashed")
    assert "KeyError: 'ours'" in stream.getvalue()


def test_lines_below_the_level_are_not_written(open_log: Callable[[str, str], Opened]) -> None:
    log, stream = open_log("warning", "text")
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_configuring_twice_does_not_write_twice(open_log: Callable[[str, str], Opened]) -> None:
    open_log("info", "text")
    log, stream = open_log("info", "text")
    log.info("once")
    assert stream.getvalue().count("once") == 1
