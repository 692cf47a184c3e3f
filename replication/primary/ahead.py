"""For how long the primary has written what no other node has. Pure: it is told, and asked.

Others have what they said they have durably. What a node has once it has, also when it is gone: so what counts is the
furthest of all."""

from typing import Final

from replication.engine.stamps import Stamp

_NOTES_MAX: Final = 1_000


class Ahead:
    """Of one epoch."""

    def __init__(self) -> None:
        self._notes: list[tuple[Stamp, float]] = []
        """How far this node was, and when it was first seen there: only what nobody else has."""
        self._elsewhere = Stamp(0)

    def note(self, here: Stamp, elsewhere: Stamp, now_s: float) -> None:
        """This node is so far, and of the others the furthest so far."""
        self._elsewhere = max(elsewhere, self._elsewhere)
        if here > max(self._elsewhere, self._notes[-1][0] if self._notes else 0):
            self._notes.append((here, now_s))
        self._notes = [note for note in self._notes if note[0] > self._elsewhere]
        if len(self._notes) > _NOTES_MAX:
            del self._notes[1:-1:2]  # the first says since when

    def for_s(self, now_s: float) -> float:
        """For how long nobody else has what this node wrote first of all that they have not; 0: they have all."""
        return now_s - self._notes[0][1] if self._notes else 0.0
