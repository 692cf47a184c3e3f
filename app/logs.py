"""The log: text for people or JSON for programs, one line a record, and no flood of the same line.

A line that could repeat without end (a peer that is refused again and again, a cast that is dropped) is logged with
`extra={"cause": "..."}`. The same cause is then written once per interval, and the next line says how many were left
out.
Code below the application needs nothing of this module for that.
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

REPEAT_INTERVAL_S = 10.0
# A peer can make up causes (names, addresses): the oldest are forgotten, so that memory stays bounded.
_CAUSES_MAX = 1024
# What every record has; all else came from `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "cause", "suppressed"}


def configure_logging(
    level: str, format: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> None:
    """Sends every log line of `level` ("debug" to "error") and above to `stream` (standard error), and nowhere else.

    `format` is "text" or "json". Calling it again replaces what the last call set.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    handler.addFilter(RepeatFilter(clock=clock))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These speak of every request and every retry at info; what they say there, ours say better.
    for chatty in ("asyncio", "httpx", "httpcore", "zeroconf", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.000 info    cluster.bus  message`, in local time; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        when = datetime.fromtimestamp(record.created).astimezone()
        # What a peer sent may stand in the message: it must not be able to begin a line or colour the terminal.
        message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in _message(record))
        shown = when.replace(tzinfo=None).isoformat(" ", "milliseconds")
        line = f"{shown} {record.levelname.lower():7} {record.name}  {message}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time` (UTC), `level`, `logger`, `message`, `exception`, and what `extra` gave."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        entry: dict[str, object] = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        entry |= {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _message(record: logging.LogRecord) -> str:
    suppressed: int = getattr(record, "suppressed", 0)
    return f"{record.getMessage()} ({suppressed} more like this were left out)" if suppressed else record.getMessage()


class RepeatFilter(logging.Filter):
    """Lets a record with a `cause` pass once in `interval_s` seconds, with the number of those that did not."""

    def __init__(self, *, interval_s: float = REPEAT_INTERVAL_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._clock = clock
        self._seen: dict[tuple[str, str], _Seen] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        cause: object = getattr(record, "cause", None)
        if cause is None:
            return True
        key = (record.name, str(cause))
        now = self._clock()
        seen = self._seen.get(key)
        if seen is not None and now - seen.at < self._interval_s:
            seen.suppressed += 1
            return False
        record.suppressed = seen.suppressed if seen is not None else 0
        self._seen.pop(key, None)
        self._seen[key] = _Seen(now)
        if len(self._seen) > _CAUSES_MAX:
            del self._seen[next(iter(self._seen))]
        return True


class _Seen:
    """When a cause was last written, and how often it was left out since."""

    __slots__ = ("at", "suppressed")

    def __init__(self, at: float) -> None:
        self.at = at
        self.suppressed = 0
