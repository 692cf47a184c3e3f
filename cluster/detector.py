"""The failure detector: from when something was last heard of a node to *suspect* and *down*. Pure; times are seconds.

A node that was not heard for `suspect_after_s` is suspect, and others are asked about it. If none of them vouches for
it, it is down at `down_after_s`. A vouch says "I heard it so long ago" and counts as having heard it then, but only up
to `suspicion_max_s` after we ourselves last did: a node that others reach and we do not is of no use to us as a peer.

Whoever stood still cannot blame others for silence. `tick` is called every `tick_interval_s`; when it comes late, the
lateness is added to what was last heard of everybody (SWIM's "Lifeguard" makes the same allowance by scaling).

Sources: Das, Gupta, Motivala, *SWIM* (2002), sections 3 and 4; Dadgar, Phillips, Currey, *Lifeguard* (2017), section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings:
    """When silence means what. A kill is noticed at once by the broken connection; these are for hosts that vanish,
    processes that hang, and networks that part."""

    tick_interval_s: float = 0.25
    heartbeat_interval_s: float = 1.0  # a message counts as a heartbeat, so a busy link sends none
    suspect_after_s: float = 2.5  # two heartbeats lost, and a half
    down_after_s: float = 5.0  # leaves others as long again to vouch
    suspicion_max_s: float = 15.0
    stall_s: float = 0.5  # a tick later than this is our own fault


class Opinion(Enum):
    """What the detector thinks of a watched node."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Change:
    """`node` is now `opinion`."""

    node: str
    opinion: Opinion


@dataclass(slots=True)
class _Watched:
    heard_s: float  # by us
    vouched_s: float  # by others, or by us
    opinion: Opinion


class FailureDetector:
    """Watches nodes; `tick` and `heard` say what changed."""

    def __init__(self, settings: DetectorSettings, now_s: float) -> None:
        self._settings = settings
        self._watched: dict[str, _Watched] = {}
        self._ticked_s = now_s
        self.stalls = 0

    def watch(self, node: str, now_s: float) -> None:
        """Begin to watch a node that is alive now."""
        self._watched[node] = _Watched(now_s, now_s, Opinion.ALIVE)

    def forget(self, node: str) -> None:
        """Watch it no more."""
        self._watched.pop(node, None)

    def opinion(self, node: str) -> Opinion:
        """What is thought of it; a node that is not watched is DOWN."""
        watched = self._watched.get(node)
        return Opinion.DOWN if watched is None else watched.opinion

    def heard_ago_s(self, node: str, now_s: float) -> float | None:
        """How long ago we ourselves heard it; None if it is not watched."""
        watched = self._watched.get(node)
        return None if watched is None else max(0.0, now_s - watched.heard_s)

    def heard(self, node: str, now_s: float) -> bool:
        """Something came from `node`. True if it was suspect and is not any more."""
        watched = self._watched.get(node)
        if watched is None:
            return False
        watched.heard_s = watched.vouched_s = max(now_s, watched.heard_s)
        refuted = watched.opinion is Opinion.SUSPECT
        watched.opinion = Opinion.ALIVE
        return refuted

    def vouched(self, node: str, age_s: float, now_s: float) -> None:
        """Somebody else heard `node` `age_s` ago."""
        watched = self._watched.get(node)
        if watched is not None:
            watched.vouched_s = max(watched.vouched_s, now_s - max(0.0, age_s))

    def tick(self, now_s: float) -> Sequence[Change]:
        """What time alone has changed. A node reported DOWN is forgotten."""
        self._forgive_own_stall(now_s)
        changes: list[Change] = []
        for node, watched in list(self._watched.items()):
            opinion = self._judge(watched, now_s)
            if opinion is Opinion.DOWN:
                del self._watched[node]
            if opinion is not watched.opinion:
                watched.opinion = opinion
                changes.append(Change(node, opinion))
        return changes

    def _judge(self, watched: _Watched, now_s: float) -> Opinion:
        silent_s = now_s - watched.heard_s
        if silent_s < self._settings.suspect_after_s:
            return Opinion.ALIVE
        if silent_s >= self._settings.suspicion_max_s or now_s - watched.vouched_s >= self._settings.down_after_s:
            return Opinion.DOWN
        return Opinion.SUSPECT

    def _forgive_own_stall(self, now_s: float) -> None:
        late_s = now_s - self._ticked_s - self._settings.tick_interval_s
        self._ticked_s = now_s
        if late_s < self._settings.stall_s:
            return
        self.stalls += 1
        for watched in self._watched.values():
            watched.heard_s = min(now_s, watched.heard_s + late_s)
            watched.vouched_s = min(now_s, watched.vouched_s + late_s)
