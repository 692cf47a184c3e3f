"""This node's clock against its peers', as they said it in their heads."""

from collections.abc import Callable

from replication.convergent.clocks import is_ahead_alone, off_ms
from replication.convergent.exchange import Exchange
from replication.convergent.store import View
from replication.engine.stamps import BASELINE_STAMP, latest_ms


class OwnClock:
    """Compares `now_ms` with what peers say of their clocks."""

    def __init__(self, exchange: Exchange, *, now_ms: Callable[[], int], bound_ms: int) -> None:
        self.now_ms = now_ms
        self.bound_ms = bound_ms
        self._exchange = exchange
        self._offsets_ms: dict[str, int] = {}

    def heard(self, peer: str, clock_ms: int) -> None:
        """A peer said what its clock shows."""
        self._offsets_ms[peer] = clock_ms - self.now_ms()

    def off_ms(self) -> int:
        """How far the peers' clocks are ahead of this one, if it is off beyond the bound; else 0."""
        heads = self._exchange.heads()
        return off_ms([offset for peer, offset in self._offsets_ms.items() if peer in heads], self.bound_ms)

    def before_ms(self, view: View) -> int:
        """Stamps from this millisecond on are too far ahead."""
        others = max((head.stamp for site, head in view.vector.items() if site != view.site), default=BASELINE_STAMP)
        return latest_ms(now_ms=self.now_ms(), bound_ms=self.bound_ms, newest_of_others=others) + 1

    def is_ahead(self, view: View) -> bool:
        """Whether what this node stamped far ahead is going to be stamped again."""
        return not self.off_ms() and is_ahead_alone(
            view, self._exchange.heads(), self._offsets_ms, now_ms=self.now_ms(), bound_ms=self.bound_ms
        )
