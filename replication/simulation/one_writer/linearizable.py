"""Whether what was written to and read from one register can have happened one after another.

As Wing and Gong search, with the states remembered that led nowhere: of the operations that are left, one whose
beginning is before the end of every other of them may have been first. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One, by true time. `saw`: the value that it found there, None for none. `wrote`: None if it only read."""

    began_s: float
    ended_s: float
    """Infinity if it happened, and nobody knows when it was over."""
    saw: str | None
    wrote: str | None


def is_linearizable(history: Sequence[Operation]) -> bool:
    """Whether there is an order of all operations that agrees with their times, in which each saw what was there."""
    dead: set[tuple[frozenset[int], str | None]] = set()
    stack: list[tuple[frozenset[int], str | None]] = [(frozenset(range(len(history))), None)]
    while stack:
        left, value = stack.pop()
        if not left:
            return True
        if (left, value) in dead:
            continue
        dead.add((left, value))
        first_end_s = min(history[one].ended_s for one in left)
        for one in sorted(left):
            operation = history[one]
            if operation.began_s <= first_end_s and operation.saw == value:
                stack.append((left - {one}, value if operation.wrote is None else operation.wrote))
    return False
