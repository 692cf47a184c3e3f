"""What each node of the cluster holds: its own counts and counters, asked over the bus.

A node answers for itself through the actor `PageReport`. A node that wants to show the cluster asks every peer at once
through `ClusterReport` and keeps the last answer of each, so that one which does not answer in time is shown with what
was last known of it, marked as stale.

Everything here is bounded: a report names the `TOP_PAGES` pages with the largest counts and at most `ASKED_PAGES` more
that were asked for by name; the answer of a peer is checked field by field before anything is made of it; however many
people watch, one round of questions is on its way at a time.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.standing import NoStanding, Standing, StatusOf, parse_standing, standing
from cluster.actor import Actor
from cluster.errors import CallError
from replication.rounds import Rounds

log = logging.getLogger(__name__)

PAGE_REPORT = "PageReport"
TOP_PAGES = 50
ASKED_PAGES = 80  # the pages that the asker knows of: the top of every node and the recently counted, cut off here
RECENT_PAGES = 16
COUNTERS_MAX = 64  # a node has about thirty; a peer that sends more is not believed
PAGE_MAX_CHARACTERS = 200
COUNT_MAX = 2**63 - 1  # what SQLite's INTEGER holds
CALL_DEADLINE_S = 0.5

# Any program may write to this file: rows that a peer would not believe are not shown.
_SHOWN = f"length(page) <= {PAGE_MAX_CHARACTERS} AND typeof(count) = 'integer'"

TOP_MIN_AGE_S = 0.2
TOP_COST_SHARE = 10  # the scan for the largest counts may take one part in so many of a node's time


class Member(Protocol):
    """A node of the cluster as this node sees it; name and region are None until it said who it is."""

    @property
    def name(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...
    @property
    def address(self) -> object: ...
    @property
    def state(self) -> str: ...


class CounterView(Protocol):
    """Counts by cause."""

    def snapshot(self) -> dict[str, int]: ...


class NodeView(Protocol):
    """What the application needs of the node it runs on."""

    @property
    def name(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def incarnation(self) -> str: ...
    @property
    def counters(self) -> CounterView: ...

    def members(self) -> Sequence[Member]: ...

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float = 5.0) -> object: ...


class Reads(Protocol):
    """Reading rows, as `Repo` does."""

    async def all(self, sql: str, params: list[Any], /) -> Sequence[Mapping[str, object]]: ...


class PageReader:
    """Reads this node's report from its own database.

    The largest counts need a scan of the table, so that answer is kept for a fifth of a second, and longer the longer
    it took to find: watching must not slow down counting. Pages asked for by name are always read anew.
    """

    def __init__(
        self,
        repo: Reads | None,
        counters: CounterView,
        *,
        status: StatusOf | None = None,
        top_min_age_s: float = TOP_MIN_AGE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`repo` is None on a node without the counter: what there is of it here is unknown. `status` asks how
        replication stands, in the mode that has something to say of it."""
        self._repo = repo
        self._counters = counters
        self._status = status
        self._top_min_age_s = top_min_age_s
        self._monotonic = monotonic
        self._top: list[tuple[str, int]] = []
        self._complete = False
        self._top_until = float("-inf")
        self._reading = asyncio.Lock()

    async def read(self, asked: Sequence[str] = ()) -> dict[str, object]:
        """The report as plain values: `pages` {page: count}, `complete` (no page is left out), `counters`, and, in
        mode convergent, `replication`, as `app.standing` has it.

        A page that was asked for and never counted here is in `pages` with 0. Raises what the database raises.
        """
        report: dict[str, object] = {
            "pages": {} if self._repo is None else await self._pages(self._repo, asked),
            "complete": self._complete,
            "counters": self._counters.snapshot(),
        }
        if self._status is not None:
            report["replication"] = standing(self._status()).plain()
        return report

    async def _pages(self, repo: Reads, asked: Sequence[str]) -> dict[str, int]:
        async with self._reading:
            if self._monotonic() >= self._top_until:
                await self._read_top(repo)
        pages = dict(self._top)
        asked = list(dict.fromkeys(asked))[:ASKED_PAGES]
        if asked:
            marks = ",".join("?" * len(asked))
            rows = await repo.all(f"SELECT page, count FROM page_counts WHERE page IN ({marks}) AND {_SHOWN}", asked)
            pages.update(dict.fromkeys(asked, 0))
            pages.update(_page_and_count(row) for row in rows)
        return pages

    async def _read_top(self, repo: Reads) -> None:
        began = self._monotonic()
        # One more than shown tells whether something was left out.
        rows = await repo.all(
            f"SELECT page, count FROM page_counts WHERE {_SHOWN} ORDER BY count DESC, page LIMIT ?", [TOP_PAGES + 1]
        )
        ended = self._monotonic()
        self._top = [_page_and_count(row) for row in rows[:TOP_PAGES]]
        self._complete = len(rows) <= TOP_PAGES
        self._top_until = ended + max(self._top_min_age_s, (ended - began) * TOP_COST_SHARE)


def _page_and_count(row: Mapping[str, object]) -> tuple[str, int]:
    page, count = row["page"], row["count"]
    return str(page), count if isinstance(count, int) else 0


class PageReport(Actor):
    """Answers peers that ask what this node holds. The message is `{"pages": [names] | None}`."""

    name = PAGE_REPORT

    def __init__(self, reader: PageReader) -> None:
        self._reader = reader

    async def handle_call(self, message: object, sender: str) -> object:
        """This node's report, or `{"error": why}`: a question that cannot be answered must not crash the actor."""
        asked = message.get("pages") if isinstance(message, dict) else None
        if asked is None:
            asked = []
        if not isinstance(asked, list) or not all(isinstance(page, str) for page in asked):
            return {"error": "pages must be a list of names or null"}
        try:
            return await self._reader.read(asked)
        except Exception as exc:
            # Whatever is wrong with the database shows where it is written to. A page that people look at must not
            # use up the restarts of the actors that replication needs.
            log.debug("no report for %s: %s", sender, exc)
            return {"error": str(exc)}

    async def handle_cast(self, message: object, sender: str) -> None:
        """Nothing is cast to this actor; what arrives all the same is ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What one node holds, as far as it is known here.

    `pages` maps a page to its count (0: asked for and never counted there). With `complete`, a page that is missing
    was never counted there; without, it is unknown. `stale` says that the node did not answer the last question, and
    that `pages`, `counters` and `replication` (None in the modes that have none) are what it said at `at_s` (Unix
    time; None: it never answered).
    """

    name: str
    region: str
    state: str
    address: str = ""
    itself: bool = False
    stale: bool = False
    at_s: float | None = None
    complete: bool = False
    pages: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    replication: Standing | None = None

    def count(self, page: str) -> int | None:
        """The count of `page` there; None if it is not known."""
        return self.pages.get(page, 0 if self.complete else None)

    @property
    def comparable(self) -> bool:
        """Whether it takes part in the drift: it has answered, and is not known to be away."""
        return self.at_s is not None and self.state in ("up", "suspect")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    at_s: float
    complete: bool
    pages: Mapping[str, int]
    counters: Mapping[str, int]
    replication: Standing | None


def parse_answer(value: object, at_s: float) -> _Answer | None:
    """Check what a peer answered; None if it is not a report."""
    if not isinstance(value, dict):
        return None
    complete = value.get("complete")
    pages = _counts(value.get("pages"), limit=TOP_PAGES + ASKED_PAGES)
    counters = _counts(value.get("counters"), limit=COUNTERS_MAX)
    if not isinstance(complete, bool) or pages is None or counters is None:
        return None
    try:
        replication = parse_standing(value.get("replication"))
    except NoStanding:
        return None
    return _Answer(at_s=at_s, complete=complete, pages=pages, counters=counters, replication=replication)


def _counts(value: object, *, limit: int) -> dict[str, int] | None:
    if not isinstance(value, dict) or len(value) > limit:
        return None
    for key, count in value.items():
        if not isinstance(key, str) or len(key) > PAGE_MAX_CHARACTERS or type(count) is not int:
            return None
        if not -COUNT_MAX - 1 <= count <= COUNT_MAX:
            return None
    return value


def drift(reports: Sequence[NodeReport], page: str) -> int:
    """Largest minus smallest count of `page` among the nodes that can be compared; 0 with fewer than two."""
    counts = [count for report in reports if report.comparable and (count := report.count(page)) is not None]
    return max(counts) - min(counts) if len(counts) > 1 else 0


def pages_by_count(reports: Sequence[NodeReport]) -> list[str]:
    """All pages that any node counted, the largest first, `TOP_PAGES` at most."""
    largest: dict[str, int] = {}
    for report in reports:
        for page, count in report.pages.items():
            if count > 0:
                largest[page] = max(count, largest.get(page, 0))
    return sorted(largest, key=lambda page: (-largest[page], page))[:TOP_PAGES]


class ClusterReport:
    """Asks every node of the cluster what it holds, one round at a time.

    A caller of `beliefs` gets the round that begins after its call, so that it sees what was written before (of a page
    that is not asked for by name: before the last fifth of a second). Those who call meanwhile share the next one.
    Nothing is asked while nobody calls. Belongs to one event loop.
    """

    def __init__(
        self,
        node: NodeView,
        reader: PageReader,
        *,
        deadline_s: float = CALL_DEADLINE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._reader = reader
        self._deadline_s = deadline_s
        self._clock = clock
        self._known: dict[str, _Answer] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._rounds = Rounds(self._ask_everybody, name="cluster report")

    def note(self, page: str) -> None:
        """Ask for this page by name from now on: it was counted or looked at here, and may be in nobody's top."""
        self._recent[page] = None
        self._recent.move_to_end(page)
        while len(self._recent) > RECENT_PAGES:
            self._recent.popitem(last=False)

    async def beliefs(self) -> dict[str, NodeReport]:
        """What each node holds, by name, this node first, the others in the order of their names.

        Takes as long as the slowest peer, `deadline_s` at most (twice that if a round was on its way). Never raises for
        a peer that does not answer; raises what this node's own database raises. Cancelling one caller leaves the
        others undisturbed.
        """
        return {report.name: report for report in await self._rounds.result()}

    async def close(self) -> None:
        """End a round that is on its way; those who wait for it are cancelled."""
        await self._rounds.close()

    async def _ask_everybody(self) -> list[NodeReport]:
        # A member that has not said its name yet is known by its address alone, and cannot be asked.
        members = {member.name or str(member.address): member for member in self._node.members()}
        members.pop(self._node.name, None)
        self._known = {name: answer for name, answer in self._known.items() if name in members}
        asked = self._pages_to_ask()
        own = parse_answer(await self._reader.read(asked), self._clock())
        if own is not None:
            self._known[self._node.name] = own
            asked = self._pages_to_ask()
        answered = await asyncio.gather(
            *(self._ask(name, asked) for name, member in members.items() if member.state in ("up", "suspect"))
        )
        fresh = {name for name in answered if name is not None}
        reports = [self._report(self._node.name, self._node.region, "up", "", itself=True, fresh=own is not None)]
        for name, member in sorted(members.items()):
            reports.append(
                self._report(name, member.region or "", str(member.state), str(member.address), fresh=name in fresh)
            )
        return reports

    def _pages_to_ask(self) -> list[str]:
        largest: dict[str, int] = {}
        for answer in self._known.values():
            for page, count in answer.pages.items():
                if count > 0:
                    largest[page] = max(count, largest.get(page, 0))
        by_count = sorted(largest, key=lambda page: (-largest[page], page))
        return list(dict.fromkeys([*reversed(self._recent), *by_count]))[:ASKED_PAGES]

    async def _ask(self, name: str, asked: list[str]) -> str | None:
        try:
            value = await self._node.call(name, PAGE_REPORT, {"pages": asked}, timeout_s=self._deadline_s)
        except CallError as exc:
            log.debug("no report: %s", exc)
            return None
        answer = parse_answer(value, self._clock())
        if answer is None:
            log.debug("node %s sent something that is no report", name)
            return None
        self._known[name] = answer
        return name

    def _report(
        self, name: str, region: str, state: str, address: str, *, fresh: bool, itself: bool = False
    ) -> NodeReport:
        known = self._known.get(name)
        if known is None:
            return NodeReport(name=name, region=region, state=state, address=address, itself=itself, stale=True)
        return NodeReport(
            name=name,
            region=region,
            state=state,
            address=address,
            itself=itself,
            stale=not fresh,
            at_s=known.at_s,
            complete=known.complete,
            pages=known.pages,
            counters=known.counters,
            replication=known.replication,
        )
