"""The log: text for people or JSON for programs, one line a record.

What could repeat without end is held back where it is logged (`cluster.seldom`), not here.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

# What every record has; all else came from `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure_logging(level: str, format: str, *, stream: TextIO | None = None) -> None:
    """Sends every log line of `level` ("debug" to "error") and above to `stream` (standard error), and nowhere else.

    `format` is "text" or "json". Calling it again replaces what the last call set.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These speak of every request and every retry at info; what they say there, ours say better.
    for chatty in ("asyncio", "httpx", "httpcore", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    # An unplugged network is a traceback there, and one line with the reason here.
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL)


class TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00.000 info    cluster.bus  message`, in local time; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        when = datetime.fromtimestamp(record.created).astimezone()
        # What a peer sent may stand in the message: it must not be able to begin a line or colour the terminal.
        message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in record.getMessage())
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
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)
