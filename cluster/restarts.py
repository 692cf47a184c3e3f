"""How often may a child be restarted? Pure: the times come in as arguments."""

from collections import deque


class RestartIntensity:
    """Allows `max_restarts` within any `within_s` seconds, as OTP's supervisors do (3 in 5 by default)."""

    def __init__(self, *, max_restarts: int = 3, within_s: float = 5.0) -> None:
        self.max_restarts = max_restarts
        self.within_s = within_s
        self._restarts: deque[float] = deque()

    def allows(self, now_s: float) -> bool:
        """Note a crash at `now_s`; True if the child may be restarted, False if it is one too many."""
        while self._restarts and now_s - self._restarts[0] > self.within_s:
            self._restarts.popleft()
        self._restarts.append(now_s)
        return len(self._restarts) <= self.max_restarts
