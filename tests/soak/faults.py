"""What goes wrong with the nodes of a soak, one after the other, at random."""

import signal
import threading
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Final

from tests.support.node_process import NodeProcess

PAUSE_S: Final = (1.0, 12.0)
"""A node that stands still for the longer ones is taken for down."""
AWAY_S: Final = (0.5, 20.0)


class Faults(threading.Thread):
    """Kills, stops and pauses nodes until it is told to stop. The first one is only paused: its memory is looked at."""

    def __init__(self, nodes: Sequence[NodeProcess], *, every_s: float, random: Random) -> None:
        super().__init__(daemon=True)
        self.done: Counter[str] = Counter()
        self.failed: BaseException | None = None
        self._nodes = nodes
        self._every_s = every_s
        self._random = random
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.wait(self._random.expovariate(1 / self._every_s)):
                self._one()
        except BaseException as error:
            self.failed = error

    def _one(self) -> None:
        random = self._random
        what = random.choice(("kill -9", "SIGTERM", "SIGSTOP"))
        node = random.choice(self._nodes if what == "SIGSTOP" else self._nodes[1:])
        self.done[what] += 1
        if what == "SIGSTOP":
            node.signal(signal.SIGSTOP)
            self._over.wait(random.uniform(*PAUSE_S))
            node.signal(signal.SIGCONT)
            return
        if what == "kill -9":
            node.signal(signal.SIGKILL)
            node.ended()
        else:
            node.stop()
        self._over.wait(random.uniform(*AWAY_S))
        node.start_and_wait()

    def stop(self) -> None:
        """Ends it; every node runs then. Raises what went wrong, if anything did that should not."""
        self._over.set()
        self.join(60)
        if self.failed is not None:
            raise self.failed
