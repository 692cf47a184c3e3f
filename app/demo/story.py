"""What an act gave, and the sentences that follow from its numbers. Pure.

Nothing here is decided before it was measured: where nothing was lost, the text says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from app.demo.plan import Act

NAMES: Mapping[Act, str] = {
    Act.ALONE: "Scaled out, no replication",
    Act.GENTLE: "Naive replication, gentle traffic",
    Act.CONCURRENT: "Naive replication, concurrent traffic",
    Act.ABSENT: "A node is away for a while",
    Act.COLLISION: "A new page on two nodes at once",
}

WHAT_HAPPENS: Mapping[Act, str] = {
    Act.ALONE: "The app runs on several nodes, each with its own SQLite file. Nothing is replicated.",
    Act.GENTLE: "Now each node casts every row it writes to all others. One view at a time.",
    Act.CONCURRENT: "The same, but visitors come to all nodes at the same time.",
    Act.ABSENT: "One node is killed, the others go on counting, and it comes back with its data.",
    Act.COLLISION: "Two nodes count the first view of the same page at the same moment.",
}


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
    """What was measured in one act.

    `counts` are read from each node's own file. `expected` is how many views were answered with 200; `refused` were
    certainly not counted, `unknown` may have been. `crashes` and `dropped` add up over the nodes. `subject` names the
    nodes that the act is about: the one that was away (4), the two that collided (5). `pages_apart` of `pages_beside`
    other pages ended different (5). `notes` say what went otherwise than planned.
    """

    act: Act
    mode: str
    page: str
    expected: int
    counts: Mapping[str, int]
    crashes: int = 0
    dropped: int = 0
    refused: int = 0
    unknown: int = 0
    subject: tuple[str, ...] = ()
    attempts: int = 1
    pages_beside: int = 0
    pages_apart: int = 0
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
        """How many counted views even the node with the largest count does not know of."""
        return self.expected - self.largest

    @property
    def drift(self) -> int:
        """How far the nodes are apart."""
        return self.largest - min(self.counts.values())

    def as_json(self) -> dict[str, object]:
        """The act as `litecast demo --json` prints it."""
        return {
            "act": self.act.value,
            "name": self.name,
            "mode": self.mode,
            "page": self.page,
            "expected": self.expected,
            "counts": dict(self.counts),
            "lost": self.lost,
            "drift": self.drift,
            "crashes": self.crashes,
            "dropped": self.dropped,
        }


def sentences(result: ActResult) -> list[str]:
    """The act told in one to three sentences, and one more for each thing that went otherwise than planned."""
    match result.act:
        case Act.ALONE:
            told = _alone(result)
        case Act.GENTLE:
            told = _gentle(result)
        case Act.CONCURRENT:
            told = _concurrent(result)
        case Act.ABSENT:
            told = _absent(result)
        case Act.COLLISION:
            told = _collision(result)
        case _:
            assert_never(result.act)
    return [*told, *_uncertain(result), *result.notes]


def lesson(result: ActResult) -> str:
    """The act in one line of a table, short enough for a narrow terminal."""
    match result.act:
        case Act.ALONE:
            return "each knows its own visitors" if result.drift else "equal by chance"
        case Act.GENTLE:
            return "all equal: the claim holds" if _all_well(result) else "not even this went well"
        case Act.CONCURRENT:
            if result.lost > 0:
                return "views lost, nodes differ" if result.drift else "views lost on every node"
            return "nothing lost, nodes differ" if result.drift else "nothing lost this time"
        case Act.ABSENT:
            return "it never learns the rest" if _behind(result) > 0 else "it caught up, for once"
        case Act.COLLISION:
            if not result.crashes:
                return "no collision this time"
            return "actor crashed, mailbox lost" if result.dropped else "the actor crashed"
        case _:
            assert_never(result.act)


def closing(results: list[ActResult]) -> list[str]:
    """What the acts say together. Empty without any."""
    naive = [result for result in results if result.mode == "naive"]
    if not naive:
        return []
    lost = sum(max(result.lost, 0) for result in naive)
    apart = sum(result.drift > 0 for result in naive)
    if not lost and not apart:
        return ["This time naive replication lost nothing. More --clicks, or another run, may show what it can do."]
    viewed = sum(result.expected for result in naive)
    told = f"With naive replication {lost:,} of {_views(viewed)} {_were(lost)} lost, and {apart} of {len(naive)} acts "
    told += "left the nodes different."
    if any(result.refused or result.unknown for result in naive):
        return [told]
    return [told, "Every view was answered with 200. No visitor was told that anything is wrong."]


def count_of(result: ActResult, node: str) -> str:
    """A node's count with what it misses: `288 (−12)`."""
    count = result.counts[node]
    missing = result.expected - count
    return f"{count:,}" if not missing else f"{count:,} ({-missing:+,})".replace("-", "−")


def _alone(result: ActResult) -> list[str]:
    spread = f"{_views(result.expected)} spread over {len(result.counts)} nodes, and nobody tells anybody."
    if not result.drift:
        return [spread, "By chance, all nodes say the same. That is not because any of them knows the others."]
    differ = f"The nodes differ by {result.drift:,} at once"
    if result.lost <= 0:
        return [spread, f"{differ}: all visitors came to one of them."]
    return [spread, f"{differ}; the best of them misses {_of(result.lost, result.expected)}."]


def _gentle(result: ActResult) -> list[str]:
    how = f"{_views(result.expected)}, one at a time, each on another node than the last."
    if _all_well(result):
        return [how, f"Every node says {result.largest:,}. This is what convinces everybody."]
    if result.drift:
        lost = max(result.lost, 0)
        return [how, f"Even so, the nodes differ by {result.drift:,}, and {_views(lost)} {_were(lost)} lost."]
    return [how, f"The nodes agree, but {_of(result.lost, result.expected)} {_were(result.lost)} lost."]


def _concurrent(result: ActResult) -> list[str]:
    how = f"{_views(result.expected)} on all nodes at the same time, every one answered with 200."
    apart = f"The nodes end {result.drift:,} apart" if result.drift else "The nodes end equal"
    if result.lost > 0:
        why = "Two nodes read the same count, add one, and send each other the same sum: one of the views is gone."
        link = "and" if result.drift else "but"
        return [how, f"{apart}, {link} the best of them has lost {_of(result.lost, result.expected)}.", why]
    if result.drift:
        return [how, f"{apart}, although one of them knows of every view."]
    return [how, "Nothing was lost this time, and the nodes agree. Concurrency is luck: try more --clicks."]


def _absent(result: ActResult) -> list[str]:
    victim = result.subject[0]
    behind = _behind(result)
    if behind <= 0:
        return [f"{victim} was killed and came back, and this time it is not behind."]
    told = f"{victim} was killed, and came back with its data. It says {result.counts[victim]:,}: "
    told += f"{behind:,} fewer than the others."
    why = "It is a peer again, and newer casts reach it; but nobody kept what it missed, and it does not ask."
    if not result.dropped:
        why += " Nothing counts as dropped: nobody casts to a node that is not there."
    if result.lost > 0:
        return [told, why, f"Besides, {_of(result.lost, result.expected)} {_were(result.lost)} lost on every node."]
    return [told, why]


def _collision(result: ActResult) -> list[str]:
    both = " and ".join(result.subject)
    if not result.crashes:
        return [
            f"{both} counted a new page at the same moment, {result.attempts} times over, and no insert collided.",
            "Whoever was a little later had the other's row already.",
        ]
    crashed = "one actor" if result.crashes == 1 else f"{result.crashes} actors"
    at_last = f", at the {_ordinal(result.attempts)} attempt" if result.attempts > 1 else ""
    story = f"{both} each inserted the page and cast the insert{at_last}. "
    told = [f"{story}The row was there already, so {crashed} crashed."]
    if result.dropped:
        told.append(f"With the mailboxes went {_casts(result.dropped)} that {_were(result.dropped)} waiting there.")
        if result.pages_apart:
            told[-1] += f" {result.pages_apart} of {result.pages_beside} other pages differ now for want of them."
    else:
        told.append("The mailboxes happened to be empty: no other cast was lost with them.")
    if result.lost > 0:
        told.append(f"{_views(result.expected)} were answered with 200, and the page says {result.largest:,}.")
    return told


def _uncertain(result: ActResult) -> list[str]:
    told = []
    if result.refused:
        told.append(f"{_views(result.refused)} {_were(result.refused)} refused, and are not expected to be counted.")
    if result.unknown:
        told.append(
            f"Of {_views(result.unknown)} nobody knows whether they were counted: "
            f"what was lost can be up to {result.unknown:,} more."
        )
    return told


def _all_well(result: ActResult) -> bool:
    return not result.lost and not result.drift


def _behind(result: ActResult) -> int:
    return max((result.largest - result.counts[node] for node in result.subject), default=0)


def _of(part: int, whole: int) -> str:
    share = f" ({part / whole:.0%})" if whole else ""
    return f"{part:,} of {_views(whole)}{share}"


def _views(count: int) -> str:
    return "1 view" if count == 1 else f"{count:,} views"


def _casts(count: int) -> str:
    return "1 cast" if count == 1 else f"{count:,} casts"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
