"""Nodes of mode primary as processes: who of them writes, and programs that write through them by statement."""

import itertools
import threading
import time
from collections.abc import Sequence

from litecast import PrimaryStatements
from replication.acknowledging.levels import Ack
from replication.errors import NoPrimary, NotConfirmed, OutcomeUnknown
from tests.support.convergent_nodes import Make
from tests.support.node_process import NodeProcess

WITHIN_S = 80.0
NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT UNIQUE)"
INSERT = "INSERT INTO notes (text) VALUES (?)"


def three_with_notes(make: Make, *, lease_url: str, ttl_s: float, **settings: object) -> list[NodeProcess]:
    """Nodes a, b and c, which know nothing of each other yet and are not started: any of them may have the lease."""
    return [
        make(
            name,
            replication__mode="primary",
            replication__tables={"notes": {}},
            cluster__size=3,
            lease__provider="object_store",
            lease__url=lease_url,
            lease__ttl_s=ttl_s,
            **settings,
        )
        for name in "abc"
    ]


def primary_of(nodes: Sequence[NodeProcess]) -> NodeProcess:
    """Waits until all of these nodes say that the same one of them is the primary, and that they are ready."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        said = [node.cluster() for node in nodes]
        told = {one["replication"]["primary"] for one in said if one}
        if len(told) == 1 and all(said) and all(node.get("/readyz")[0] == 200 for node in nodes):
            for node in nodes:
                if node.name in told:
                    return node
        assert time.monotonic() < deadline, [one and one["replication"] for one in said]
        time.sleep(0.05)


class Writer(threading.Thread):
    """A program beside a node: it writes by statement, one row after the other, until it is told to stop. `ack`: how
    sure each is to be; None: as the node's settings say. It pauses for `pace_s` between two."""

    def __init__(
        self, node: NodeProcess, numbers: "itertools.count[int]", *, ack: Ack | None = None, pace_s: float = 0.0
    ) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[tuple[int, float]] = []
        """Which row, and when."""
        self.unknown: set[int] = set()
        """Rows that may be there, or may not."""
        self.stopping = threading.Event()
        self._statements = PrimaryStatements(node.database)
        self._numbers = numbers
        self._ack = ack
        self._pace_s = pace_s

    def run(self) -> None:
        while not self.stopping.wait(self._pace_s):
            number = next(self._numbers)
            try:
                self._statements.execute(INSERT, (str(number),), ack=self._ack)
            except NoPrimary:
                time.sleep(0.01)
            except (OutcomeUnknown, NotConfirmed):
                self.unknown.add(number)
            else:
                self.acknowledged.append((number, time.monotonic()))
