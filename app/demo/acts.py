"""The acts, as one cluster plays them. Each uses pages of its own, waits until nothing moves any more, and reads
every node's file.

In all modes the same happens: the same requests in the same order, the same faults. Only how long is waited at the end
differs. A naive cluster has ended when no count has changed for a while. One in mode convergent or primary has to reach
the counts that it must have, and gets `CONVERGED_WITHIN_S` for it; it then has to keep them for as long as a naive one
is watched.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from app.config.model import Mode
from app.demo.cluster import DemoCluster
from app.demo.counts import CountReader, Recorder, recording
from app.demo.errors import DemoError
from app.demo.measures import NodeCounters, casts_received, damage
from app.demo.plan import COLLISION_TRIES, Act, Plan
from app.demo.results import PROMISING, ActResult, is_exact
from app.demo.settling import LOOK_INTERVAL_S, Settling, looking
from app.demo.traffic import Outcome, Traffic

VISITORS_PER_NODE = 4
WAVE_PAUSE_S = 0.02  # most casts of a wave have arrived when the next one comes
QUIET_FOR_S = 0.7  # no count has changed for so long: on loopback a cast takes a millisecond
QUIET_WITHIN_S = 20.0
CONVERGED_WITHIN_S = 20.0  # it takes milliseconds; a cast that was lost is asked for after a second or two
ARRIVED_WITHIN_S = 5.0
LATE_WITHIN_S = 0.2
PRIMARY_WITHIN_S = 30.0
ARRIVAL_POLL_S = 0.002
BYSTANDER_VIEWS = 24  # on each node, so that mailboxes hold something when an actor crashes

type Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """What a run of an act leaves to be measured. `since_s` is when its traffic ended, or its fault."""

    page: str
    recorder: Recorder
    before: Mapping[str, NodeCounters]
    settling: Settling
    since_s: float
    beside: Sequence[str] = ()
    earlier: Sequence[str] = ()
    subject: tuple[str, ...] = ()
    attempts: int = 1
    takeover_s: float | None = None
    notes: tuple[str, ...] = ()


class Stage:
    """Where the acts are played: the cluster, the traffic to it, the files behind it.

    `attempts` is how often act 5 is tried, where another cluster has shown how often that must be; None to find out.
    """

    def __init__(
        self,
        plan: Plan,
        cluster: DemoCluster,
        traffic: Traffic,
        reader: CountReader,
        *,
        attempts: int | None = None,
    ) -> None:
        self.plan = plan
        self.cluster = cluster
        self.traffic = traffic
        self.reader = reader
        self._attempts = attempts

    async def play(self, act: Act, step: Step) -> ActResult:
        """Plays one act; `step` is told what happens. The cluster must be complete. Raises DemoError."""
        match act:
            case Act.ALONE:
                playing = self._alone
            case Act.GENTLE:
                playing = self._gentle
            case Act.CONCURRENT:
                playing = self._concurrent
            case Act.ABSENT:
                playing = self._absent
            case Act.COLLISION:
                playing = self._collision
            case Act.KILLED:
                playing = self._killed
            case _:
                assert_never(act)
        return await self._result(act, await playing(step))

    async def _alone(self, step: Step) -> _Ended:
        page = self.plan.page(Act.ALONE)
        before = await self.cluster.counters()
        schedule = self.plan.spread()
        step(f"{len(schedule):,} views, spread over the nodes")
        async with recording(self._recorder(page)) as recorder:
            await self.traffic.visitors([(node, page) for node in schedule], VISITORS_PER_NODE * len(self.plan.names))
            settling = await self._settled([page])
        return _Ended(page=page, recorder=recorder, before=before, settling=settling, since_s=self.traffic.ended_s)

    async def _gentle(self, step: Step) -> _Ended:
        page = self.plan.page(Act.GENTLE)
        before = await self.cluster.counters()
        schedule = self.plan.gentle()
        step(f"{len(schedule):,} views, each waited for on every node")
        async with recording(self._recorder(page)) as recorder:
            late = await self._one_by_one(schedule, page)
            settling = await self._settled([page])
        notes = (f"{late:,} of them had not reached every node after {ARRIVED_WITHIN_S:g} s.",) if late else ()
        return _Ended(
            page=page,
            recorder=recorder,
            before=before,
            settling=settling,
            since_s=self.traffic.ended_s,
            notes=notes,
        )

    async def _concurrent(self, step: Step) -> _Ended:
        page = self.plan.page(Act.CONCURRENT)
        before = await self.cluster.counters()
        names, clicks = self.plan.names, self.plan.options.clicks
        step(f"{clicks:,} views, in waves that reach all nodes at the same time")
        async with recording(self._recorder(page)) as recorder:
            # The row is there on every node before the traffic comes: what is lost are updates, not inserts.
            await self._one_by_one([self.plan.first_view()], page)
            waves = self.plan.waves()
            await self.traffic.prepare({name: max((wave.count(name) for wave in waves), default=0) for name in names})
            for number, wave in enumerate(waves):
                if number:
                    await asyncio.sleep(WAVE_PAUSE_S)
                await self.traffic.at_once([(name, page) for name in wave])
            step("waiting until nothing moves any more")
            settling = await self._settled([page])
        return _Ended(page=page, recorder=recorder, before=before, settling=settling, since_s=self.traffic.ended_s)

    async def _absent(self, step: Step) -> _Ended:
        page, victim = self.plan.page(Act.ABSENT), self.plan.victim()
        others = [name for name in self.plan.names if name != victim]
        before = await self.cluster.counters()
        settling = Settling(self.reader, self.traffic, [page])
        async with recording(self._recorder(page)) as recorder:
            await self._one_by_one(self.plan.before_the_kill(), page)
            step(f"killing {victim}")
            await self.cluster.kill(victim)
            recorder.mark(f"{victim} is killed")
            schedule = self.plan.while_away()
            step(f"{len(schedule):,} views while {victim} is away")
            await self._one_by_one(schedule, page, among=others)
            step(f"starting {victim} again, on its data")
            async with looking(settling):
                back_s = await self.cluster.bring_back(victim)
                recorder.mark(f"{victim} is back", back_s)
                # What others cast from now on arrives at the victim. So it is not the link that keeps it from knowing.
                signs = {name: self.plan.sign_of_life(name) for name in others}
                unheard = 0
                for name, sign in signs.items():
                    await self.traffic.view(name, sign)
                    unheard += not await self._arrived(sign, 1, [victim], ARRIVED_WITHIN_S)
            await self._settle(settling)
        notes = (f"After its return, casts of {unheard} of the others did not reach {victim}.",) if unheard else ()
        return _Ended(
            page=page,
            recorder=recorder,
            before=before,
            settling=settling,
            since_s=back_s,
            beside=list(signs.values()),
            subject=(victim,),
            notes=notes,
        )

    async def _collision(self, step: Step) -> _Ended:
        names, pair = self.plan.names, self.plan.colliding()
        step("one first view of each of the other pages")
        # Rows that are not everywhere yet would crash actors as well, and for another reason.
        bystanders = {name: self.plan.bystander(name) for name in names}
        bystanders = {name: page for name, page in bystanders.items() if not await self._one_by_one([name], page)}
        await self.traffic.prepare(dict.fromkeys(names, BYSTANDER_VIEWS + 1))
        before = await self.cluster.counters()
        pages: list[str] = []
        async with recording(self._recorder(self.plan.collision_page(0))) as recorder:
            while True:
                page = self.plan.collision_page(len(pages))
                pages.append(page)
                recorder.turn_to(page)
                step(f"{pair[0]} and {pair[1]} count {page}, while others visit other pages")
                # Every node counts a page of its own, so that mailboxes are not empty; nothing of that collides.
                beside = [view for _ in range(BYSTANDER_VIEWS) for view in bystanders.items()]
                middle = len(beside) // 2
                await self.traffic.at_once([*beside[:middle], *((name, page) for name in pair), *beside[middle:]])
                settling = await self._settled([page, *bystanders.values()])
                if await self._has_collided(len(pages), before):
                    break
        return _Ended(
            page=pages[-1],
            recorder=recorder,
            before=before,
            settling=settling,
            since_s=self.traffic.ended_s,
            beside=list(bystanders.values()),
            earlier=pages[:-1],
            subject=pair,
            attempts=len(pages),
        )

    async def _killed(self, step: Step) -> _Ended:
        page = self.plan.page(Act.KILLED)
        before = await self.cluster.counters()
        primary = await self._primary()
        settling = Settling(self.reader, self.traffic, [page])
        async with recording(self._recorder(page)) as recorder:
            await self._one_by_one(self.plan.names, page)
            schedule = [(node, page) for node in self.plan.around(primary)]
            step(f"{len(schedule):,} views on the others, which forward them to {primary}")
            visits = asyncio.create_task(self.traffic.visitors(schedule, VISITORS_PER_NODE), name="demo visitors")
            try:
                await self.traffic.until(page, len(self.plan.names) + len(schedule) // 4)
                step(f"killing {primary}, which writes")
                await self.cluster.kill(primary)
                killed_s = time.monotonic()
                recorder.mark(f"{primary} is killed")
                successor = await self._primary(other_than=primary)
                takeover_s = time.monotonic() - killed_s
                recorder.mark(f"{successor} writes")
                await visits
            finally:
                visits.cancel()
                await asyncio.wait({visits})
            step(f"starting {primary} again, on its data")
            async with looking(settling):
                back_s = await self.cluster.bring_back(primary)
                recorder.mark(f"{primary} is back", back_s)
            await self._settle(settling)
        return _Ended(
            page=page,
            recorder=recorder,
            before=before,
            settling=settling,
            since_s=back_s,
            subject=(primary, successor),
            takeover_s=takeover_s,
        )

    async def _primary(self, *, other_than: str = "") -> str:
        """The node that writes. Raises DemoError if there is none for too long."""
        deadline = time.monotonic() + PRIMARY_WITHIN_S
        while time.monotonic() < deadline:
            found = await self.cluster.primary()
            if found not in (None, other_than):
                return found
            await asyncio.sleep(LOOK_INTERVAL_S)
        raise DemoError(f"no node became the primary within {PRIMARY_WITHIN_S:g} s")

    async def _has_collided(self, attempts: int, before: Mapping[str, NodeCounters]) -> bool:
        """Whether act 5 has been tried often enough.

        Once is enough. More than three crashes of an actor in five seconds would stop its node.
        """
        after = await self.cluster.counters()
        if len(after) < len(self.plan.names):
            return True
        if self._attempts is not None:
            return attempts >= self._attempts
        return attempts >= COLLISION_TRIES or damage(before, after).crashes > 0

    def _recorder(self, page: str) -> Recorder:
        return Recorder(self.reader, page, self.traffic.tally)

    async def _result(self, act: Act, ended: _Ended) -> ActResult:
        page = ended.page
        counts = await self.reader.wait_and_read(page)
        others = {other: await self.reader.wait_and_read(other) for other in (*ended.beside, *ended.earlier)}
        ended.settling.look()
        harm = damage(ended.before, await self.cluster.counters())
        exact_since_s = ended.settling.exact_since_s
        primary = await self._primary() if self.cluster.mode == Mode.PRIMARY else ""
        stopped = tuple(
            f"{name} stopped by itself: {self.cluster.last_words(name)}."
            for name in self.plan.names
            if name not in self.cluster.running
        )
        return ActResult(
            act=act,
            mode=self.cluster.mode,
            page=page,
            expected=self.traffic.tally(page),
            counts=counts,
            crashes=harm.crashes,
            dropped=harm.dropped,
            asks=harm.asks,
            collisions=harm.collisions,
            refused=self.traffic.tally(page, Outcome.REFUSED),
            unknown=self.traffic.tally(page, Outcome.UNKNOWN),
            converged_s=None if exact_since_s is None else max(0.0, exact_since_s - ended.since_s),
            subject=ended.subject,
            attempts=ended.attempts,
            pages_beside=len(ended.beside),
            pages_apart=sum(len(set(others[other].values())) > 1 for other in ended.beside),
            pages_inexact=sum(
                not is_exact(said, self.traffic.tally(other), self.traffic.tally(other, Outcome.UNKNOWN))
                for other, said in others.items()
            ),
            primary=primary,
            answered_s=(
                self.traffic.took_s(page, [primary]),
                self.traffic.took_s(page, [name for name in self.plan.names if name != primary]),
            ),
            takeover_s=ended.takeover_s,
            notes=(*ended.notes, *stopped),
            samples=ended.recorder.samples,
            marks=tuple(ended.recorder.marks),
        )

    async def _one_by_one(self, schedule: Sequence[str], page: str, among: Sequence[str] | None = None) -> int:
        """Counts a view on one node after the other, each only when the last has arrived everywhere.

        Gives the number of those that did not arrive in time.
        """
        late = 0
        for node in schedule:
            if await self.traffic.view(node, page) is Outcome.COUNTED:
                # What was lost does not come. The first teaches that, and the others are not waited for so long.
                within_s = ARRIVED_WITHIN_S if not late else LATE_WITHIN_S
                late += not await self._arrived(page, self.traffic.tally(page), among or self.plan.names, within_s)
        return late

    async def _arrived(self, page: str, count: int, among: Sequence[str], within_s: float) -> bool:
        """Whether the count of `page` has reached `count` on these nodes, soon enough."""
        deadline = time.monotonic() + within_s
        while True:
            counts = self.reader.read(page)
            if counts is not None and all(counts[name] >= count for name in among):
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(ARRIVAL_POLL_S)

    async def _settled(self, pages: Sequence[str]) -> Settling:
        settling = Settling(self.reader, self.traffic, pages)
        await self._settle(settling)
        return settling

    async def _settle(self, settling: Settling) -> None:
        """Returns when the traffic has had its effect: see the module."""
        if self.cluster.mode in PROMISING:
            await self._converged(settling)
        else:
            await self._quiet(settling)

    @staticmethod
    async def _converged(settling: Settling) -> None:
        """Returns when all counts have been as they must be for a while, or after `CONVERGED_WITHIN_S`."""
        deadline = time.monotonic() + CONVERGED_WITHIN_S
        while time.monotonic() < deadline:
            if settling.look() and time.monotonic() - settling.moved_s >= QUIET_FOR_S:
                return
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _quiet(self, settling: Settling) -> None:
        """Returns when no count has changed for a while and no cast has arrived meanwhile, or after
        `QUIET_WITHIN_S`; then the counts are read as they are.
        """
        deadline = time.monotonic() + QUIET_WITHIN_S
        received = -1
        checked_s = time.monotonic()
        while time.monotonic() < deadline:
            settling.look()
            now_s = time.monotonic()
            if now_s - max(settling.moved_s, checked_s) >= QUIET_FOR_S:
                seen = casts_received(await self.cluster.counters())
                if seen == received:
                    return
                received, checked_s = seen, now_s - QUIET_FOR_S / 2
            await asyncio.sleep(LOOK_INTERVAL_S)
