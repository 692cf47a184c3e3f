"""A log line for each cause, at most once in a while: what peers and strangers do must not fill a disk."""

import logging
from collections.abc import Callable

INTERVAL_S = 30.0
CAUSES_MAX = 256


class SeldomLog:
    """Passes the first line of a cause on, then one per interval that says how many were left out."""

    def __init__(self, log: logging.Logger, now: Callable[[], float], *, interval_s: float = INTERVAL_S) -> None:
        self._log = log
        self._now = now
        self._interval_s = interval_s
        self._last: dict[str, tuple[float, int]] = {}
        self._once: dict[str, float] = {}

    def repeated(self, cause: str, text: str) -> None:
        """As `warning`, for what can happen by chance: nothing is logged of a case that is alone within an interval."""
        now_s = self._now()
        before_s = self._once.pop(cause, None)
        if len(self._once) >= CAUSES_MAX:
            self._once.clear()
        self._once[cause] = now_s
        if before_s is not None and now_s - before_s < self._interval_s:
            self.warning(cause, text)

    def warning(self, cause: str, text: str) -> None:
        """Log `text` unless a line of the same `cause` was logged within the interval."""
        now_s = self._now()
        since_s, left_out = self._last.get(cause, (None, 0))
        if since_s is not None and now_s - since_s < self._interval_s:
            self._last[cause] = (since_s, left_out + 1)
            return
        if cause not in self._last and len(self._last) >= CAUSES_MAX:
            self._last.clear()
        self._last[cause] = (now_s, 0)
        more = f" ({left_out} more like it in between)" if left_out else ""
        self._log.warning("%s%s", text, more)
