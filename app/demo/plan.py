"""All that the seed decides: which pages are viewed, and which node is asked when. Pure.

The same seed and options give the same plan. What becomes of the counts is not planned: that is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from random import Random

NODES_MIN, NODES_MAX = 2, 9
CLICKS_MIN, CLICKS_MAX = 1, 10_000
DEFAULT_NODES = 3
DEFAULT_CLICKS = 300  # enough for concurrency to show, and a second or two on two slow cores
SEED_MAX = 2**32

GENTLE_CLICKS_MAX = 30  # each is waited for everywhere, and more of the same shows nothing more
BEFORE_THE_KILL_MAX = 10
WAVE_CLICKS_PER_NODE = 8
KILLED_CLICKS_MAX = 200
COLLISION_TRIES = 5

_NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota")
_REGIONS = ("ams", "iad", "syd", "nrt", "gru", "jnb", "fra", "sjc", "bom")
_WORDS = ("about", "blog", "docs", "news", "pricing", "shop", "start", "team", "tour", "welcome")


class Act(IntEnum):
    """The acts, in the order in which they are played."""

    ALONE = 1
    GENTLE = 2
    CONCURRENT = 3
    ABSENT = 4
    COLLISION = 5
    KILLED = 6


NAMES: Mapping[Act, str] = {
    Act.ALONE: "Scaled out, no replication",
    Act.GENTLE: "Gentle traffic",
    Act.CONCURRENT: "Concurrent traffic",
    Act.ABSENT: "A node is away for a while",
    Act.COLLISION: "A new page on two nodes at once",
    Act.KILLED: "The node that writes is killed",
}

SHORT_NAMES: Mapping[Act, str] = {
    Act.ALONE: "no replication",
    Act.GENTLE: "gentle traffic",
    Act.CONCURRENT: "concurrent traffic",
    Act.ABSENT: "a node is away",
    Act.COLLISION: "a new page, twice",
    Act.KILLED: "the primary is killed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says about the acts."""

    nodes: int = DEFAULT_NODES
    clicks: int = DEFAULT_CLICKS
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedNode:
    """A node of the demo."""

    name: str
    region: str


class Plan:
    """What the acts do, as far as it can be decided beforehand. Nodes are given by name."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.nodes = tuple(
            PlannedNode(name=name, region=region)
            for name, region in zip(_NAMES[: options.nodes], _REGIONS, strict=False)
        )
        self.names = tuple(node.name for node in self.nodes)

    def page(self, act: Act) -> str:
        """The page that the act is about."""
        return self._fresh_name(self._random(act, "page"))

    def spread(self) -> list[str]:
        """Act 1: the node of each view. The shares are unequal, as visitors live nearer to one node than to another."""
        return self._unequally(self._random(Act.ALONE, "spread"), self.options.clicks)

    def gentle(self) -> list[str]:
        """Act 2: the node of each view, never the same twice in a row."""
        return self._walk(self._random(Act.GENTLE, "walk"), self.names, min(self.options.clicks, GENTLE_CLICKS_MAX))

    def first_view(self) -> str:
        """Act 3: the node that counts the page for the first time."""
        return self._random(Act.CONCURRENT, "first").choice(self.names)

    def waves(self) -> list[list[str]]:
        """Act 3: the nodes of the views of each wave. All views of a wave come at once, more of them to one node than
        to another; together they are all but the first view.
        """
        random = self._random(Act.CONCURRENT, "waves")
        full = WAVE_CLICKS_PER_NODE * len(self.nodes)
        whole, rest = divmod(self.options.clicks - 1, full)
        # The small wave is the first: it is the last one that decides whether the nodes end different.
        return [self._unequally(random, size) for size in [rest, *[full] * whole] if size]

    def victim(self) -> str:
        """Act 4: the node that is killed."""
        return self._random(Act.ABSENT, "victim").choice(self.names)

    def before_the_kill(self) -> list[str]:
        """Act 4: the node of each view while all are there."""
        clicks = min(self.options.clicks, BEFORE_THE_KILL_MAX)
        return self._walk(self._random(Act.ABSENT, "before"), self.names, clicks)

    def while_away(self) -> list[str]:
        """Act 4: the node of each view while the victim is away; never the victim."""
        others = [name for name in self.names if name != self.victim()]
        clicks = min(self.options.clicks, GENTLE_CLICKS_MAX)
        return self._walk(self._random(Act.ABSENT, "away"), others, clicks)

    def sign_of_life(self, node: str) -> str:
        """Act 4: a page that only `node` counts, to see that its casts arrive at the one that came back."""
        return self._fresh_name(self._random(Act.ABSENT, f"sign of life of {node}"))

    def colliding(self) -> tuple[str, str]:
        """Act 5: the two nodes that count a new page at once."""
        first, second = self._random(Act.COLLISION, "pair").sample(self.names, 2)
        return first, second

    def collision_page(self, attempt: int) -> str:
        """Act 5: the new page of this attempt, counted from 0."""
        return self._fresh_name(self._random(Act.COLLISION, f"attempt {attempt}"))

    def bystander(self, node: str) -> str:
        """Act 5: the page that only `node` counts meanwhile."""
        return self._fresh_name(self._random(Act.COLLISION, f"bystander of {node}"))

    def around(self, primary: str) -> list[str]:
        """Act 6: the node of each view while `primary` is killed; never that one."""
        others = [name for name in self.names if name != primary]
        return self._walk(self._random(Act.KILLED, "around"), others, min(self.options.clicks, KILLED_CLICKS_MAX))

    def _unequally(self, random: Random, clicks: int) -> list[str]:
        favourites = list(self.names)
        random.shuffle(favourites)
        schedule = [
            name for name, share in zip(favourites, shares(clicks, len(favourites)), strict=True) for _ in range(share)
        ]
        random.shuffle(schedule)
        return schedule

    def _random(self, act: Act, purpose: str) -> Random:
        # One generator for each purpose: what one act draws does not change what another gets.
        return Random(f"{self.options.seed}/{act.value}/{purpose}")

    @staticmethod
    def _fresh_name(random: Random) -> str:
        return f"{random.choice(_WORDS)}-{random.randrange(16**6):06x}"

    @staticmethod
    def _walk(random: Random, among: tuple[str, ...] | list[str], steps: int) -> list[str]:
        walk: list[str] = []
        for _ in range(steps):
            candidates = [name for name in among if not walk or name != walk[-1]] or list(among)
            walk.append(random.choice(candidates))
        return walk


def shares(total: int, parts: int) -> list[int]:
    """`total` split into shares in proportion parts : parts - 1 : … : 1, the largest first; they add up to `total`."""
    weights = range(parts, 0, -1)
    whole = sum(weights)
    result = [total * weight // whole for weight in weights]
    for index in range(total - sum(result)):
        result[index] += 1
    return result
