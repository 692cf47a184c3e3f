"""What a loss of all disks took, and what it had to leave. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLoss:
    """A page that is counted on one node only, before and after. Times are seconds, as `time.monotonic` has them."""

    node: str
    answered_s: Sequence[float]
    """When each view was answered with 200, in order."""
    unknown: int
    """Views that were on their way when the node was killed: they may be counted."""
    safe: int
    """So many had the node reported as safe in the backup before it was killed."""
    killed_s: float
    counts: Mapping[str, int]
    """What each node's file says afterwards."""

    @property
    def answered(self) -> int:
        """How many views were answered with 200."""
        return len(self.answered_s)

    @property
    def there(self) -> int:
        """How many are there again, on every node."""
        return min(self.counts.values())

    @property
    def lost(self) -> int:
        """How many that were answered are not there any more."""
        return max(0, self.answered - self.there)

    @property
    def lost_s(self) -> float:
        """Of so many seconds before the end something is lost; 0 if nothing is."""
        return self.killed_s - self.answered_s[self.there] if self.lost else 0.0

    @property
    def problem(self) -> str:
        """What is not as it must be; "" if all is well."""
        if self.there < self.safe:
            return f"{self.safe - self.there:,} views of {self.node} that were reported as safe are lost"
        if len(set(self.counts.values())) > 1:
            return f"the nodes differ in the views of {self.node}: {', '.join(map(str, self.counts.values()))}"
        if self.there > self.answered + self.unknown:
            return f"{self.there - self.answered:,} more views of {self.node} are counted than were answered"
        return ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "node": self.node,
            "answered": self.answered,
            "unknown": self.unknown,
            "safe": self.safe,
            "counts": dict(self.counts),
            "lost": self.lost,
            "lost_s": round(self.lost_s, 3),
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The whole. `back_s`: from the start of the nodes until all are ready, and equal."""

    backup: str
    pages: Sequence[PageLoss]
    back_s: float
    origins: Mapping[str, str]
    """Where each node says that its database comes from."""

    @property
    def lost_s(self) -> float:
        """Of so many seconds before the end something is lost, on any node."""
        return max(page.lost_s for page in self.pages)

    @property
    def problems(self) -> list[str]:
        """What is not as it must be."""
        return [page.problem for page in self.pages if page.problem]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "backup": self.backup,
            "pages": [page.as_json() for page in self.pages],
            "lost_s": round(self.lost_s, 3),
            "back_s": round(self.back_s, 3),
            "origins": dict(self.origins),
            "problems": self.problems,
        }
