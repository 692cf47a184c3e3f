"""What a run of an act gave, and what may be concluded from its numbers. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from app.config.model import Mode
from app.demo.plan import NAMES, Act

PROMISING: Final = (Mode.CONVERGENT, Mode.PRIMARY)
"""Modes that promise exact counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The counts at one moment of an act, `at_s` seconds after its first sample; `expected` as far as answered."""

    at_s: float
    counts: Mapping[str, int]
    expected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened during an act, for the chart."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActResult:
    """What was measured in one run of an act.

    `counts` are read from each node's own file. `expected` is how many views were answered with 200; `refused` were
    certainly not counted, `unknown` may have been. `crashes`, `dropped`, `asks` and `collisions` add up over the nodes
    (see `measures`). `subject` names the nodes that the act is about: the one that was away (4), the two that collided
    (5). Of `pages_beside` pages that were counted beside, `pages_apart` ended different on different nodes.
    `pages_inexact` of all other pages of the act are not everywhere what they must be. `converged_s` is how long after
    the last view, or after the node was back (4), all nodes had the counts that they must have; None if they do not
    have them. `notes` say what went otherwise than planned.

    In mode primary, `primary` is the node that wrote at the end, and `answered_s` how long the answer to a view took
    there (the median), and on the other nodes, which forward it. `takeover_s` is how long after the primary was killed
    another one wrote.
    """

    act: Act
    mode: str
    page: str
    expected: int
    counts: Mapping[str, int]
    crashes: int = 0
    dropped: int = 0
    asks: int = 0
    collisions: int = 0
    refused: int = 0
    unknown: int = 0
    converged_s: float | None = None
    subject: tuple[str, ...] = ()
    attempts: int = 1
    pages_beside: int = 0
    pages_apart: int = 0
    pages_inexact: int = 0
    primary: str = ""
    answered_s: tuple[float | None, float | None] = (None, None)
    takeover_s: float | None = None
    notes: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = field(default=(), repr=False)
    marks: tuple[Mark, ...] = ()

    @property
    def name(self) -> str:
        """The act's title."""
        return NAMES[self.act]

    @property
    def largest(self) -> int:
        """The largest count of any node."""
        return max(self.counts.values())

    @property
    def lost(self) -> int:
        """How many counted views even the node with the largest count does not know of.

        Views of unknown outcome that were counted make up for none: they are not among those that are expected."""
        lost = self.expected - self.largest
        return 0 if -self.unknown <= lost <= 0 else lost

    @property
    def drift(self) -> int:
        """How far the nodes are apart."""
        return self.largest - min(self.counts.values())

    @property
    def exact(self) -> bool:
        """Whether every node ended with the count that it must have, also of the other pages."""
        return is_exact(self.counts, self.expected, self.unknown) and not self.pages_inexact

    @property
    def harmed(self) -> bool:
        """Whether anything went wrong with the counts; where that is promised, nothing may."""
        return not self.exact if self.promises else bool(self.lost or self.drift)

    @property
    def promises(self) -> bool:
        """Whether this mode promises exact counts."""
        return self.mode in PROMISING

    def as_json(self) -> dict[str, object]:
        """The run as `litecast demo --json` prints it."""
        return {
            "act": self.act.value,
            "name": self.name,
            "mode": str(self.mode),
            "page": self.page,
            "expected": self.expected,
            "counts": dict(self.counts),
            "lost": self.lost,
            "drift": self.drift,
            "crashes": self.crashes,
            "dropped": self.dropped,
            "converged_s": None if self.converged_s is None else round(self.converged_s, 4),
        }


def is_exact(counts: Mapping[str, int], expected: int, unknown: int = 0) -> bool:
    """Whether all nodes say the same, and that is what was answered, with or without views of unknown outcome.

    That they are equal is not enough: naive nodes often agree on a wrong number.
    """
    (said, *others) = set(counts.values()) or {0}
    return not others and expected <= said <= expected + unknown


def broken_promises(results: Iterable[ActResult]) -> list[ActResult]:
    """The runs in modes that promise exact counts, and that did not end exact. There must be none."""
    return [result for result in results if result.promises and not result.exact]


def by_act(results: Sequence[ActResult]) -> list[tuple[ActResult, ...]]:
    """The runs of each act together, in the order in which they were played."""
    return [tuple(runs) for _, runs in groupby(results, key=lambda result: result.act)]
