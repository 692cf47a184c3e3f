"""The five acts. Each uses pages of its own, waits until nothing moves any more, and reads every node's file."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from app.demo.cluster import DemoCluster
from app.demo.counts import CountReader, Recorder, recording
from app.demo.measures import NodeCounters, casts_received, damage
from app.demo.plan import COLLISION_TRIES, Act, Plan
from app.demo.story import ActResult
from app.demo.traffic import Outcome, Traffic

VISITORS_PER_NODE = 4
WAVE_PAUSE_S = 0.02  # most casts of a wave have arrived when the next one comes
QUIET_FOR_S = 0.7  # no count has changed for so long: on loopback a cast takes a millisecond
QUIET_WITHIN_S = 20.0
ARRIVED_WITHIN_S = 5.0
LATE_WITHIN_S = 0.2
ARRIVAL_POLL_S = 0.002
BYSTANDER_VIEWS = 24  # on each node, so that mailboxes hold something when an actor crashes

type Step = Callable[[str], None]


class Stage:
    """Where the acts are played: the cluster, the traffic to it, the files behind it."""

    def __init__(self, plan: Plan, cluster: DemoCluster, traffic: Traffic, reader: CountReader) -> None:
        self.plan = plan
        self.cluster = cluster
        self.traffic = traffic
        self.reader = reader

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
            case _:
                assert_never(act)
        return await playing(step)

    async def _alone(self, step: Step) -> ActResult:
        page = self.plan.page(Act.ALONE)
        before = await self.cluster.counters()
        schedule = self.plan.spread()
        step(f"{len(schedule):,} views, spread over the nodes")
        async with recording(self._recorder(page)) as recorder:
            await self.traffic.visitors([(node, page) for node in schedule], VISITORS_PER_NODE * len(self.plan.names))
            await self._quiet([page])
        return await self._result(Act.ALONE, page, recorder, before)

    async def _gentle(self, step: Step) -> ActResult:
        page = self.plan.page(Act.GENTLE)
        before = await self.cluster.counters()
        schedule = self.plan.gentle()
        step(f"{len(schedule):,} views, each waited for on every node")
        async with recording(self._recorder(page)) as recorder:
            late = await self._one_by_one(schedule, page)
            await self._quiet([page])
        notes = (f"{late:,} of them had not reached every node after {ARRIVED_WITHIN_S:g} s.",) if late else ()
        return await self._result(Act.GENTLE, page, recorder, before, notes=notes)

    async def _concurrent(self, step: Step) -> ActResult:
        page = self.plan.page(Act.CONCURRENT)
        before = await self.cluster.counters()
        names, clicks = self.plan.names, self.plan.options.clicks
        step(f"{clicks:,} views, in waves that reach all nodes at the same time")
        async with recording(self._recorder(page)) as recorder:
            # The row is there on every node before the traffic comes: what is lost are updates, not inserts.
            await self._one_by_one([self.plan.first_view()], page)
            waves = self.plan.waves()
            await self.traffic.prepare({name: max((wave.count(name) for wave in waves), default=0) for name in names})
            for wave in waves:
                await self.traffic.at_once([(name, page) for name in wave])
                await asyncio.sleep(WAVE_PAUSE_S)
            step("waiting until nothing moves any more")
            await self._quiet([page])
        return await self._result(Act.CONCURRENT, page, recorder, before)

    async def _absent(self, step: Step) -> ActResult:
        page, victim = self.plan.page(Act.ABSENT), self.plan.victim()
        others = [name for name in self.plan.names if name != victim]
        before = await self.cluster.counters()
        async with recording(self._recorder(page)) as recorder:
            await self._one_by_one(self.plan.before_the_kill(), page)
            step(f"killing {victim}")
            await self.cluster.kill(victim)
            recorder.mark(f"{victim} is killed")
            schedule = self.plan.while_away()
            step(f"{len(schedule):,} views while {victim} is away")
            await self._one_by_one(schedule, page, among=others)
            step(f"starting {victim} again, on its data")
            await self.cluster.bring_back(victim)
            recorder.mark(f"{victim} is back")
            # What others cast from now on arrives at the victim. So it is not the link that keeps it from knowing.
            signs = {name: self.plan.sign_of_life(name) for name in others}
            unheard = 0
            for name, sign in signs.items():
                await self.traffic.view(name, sign)
                unheard += not await self._arrived(sign, 1, [victim], ARRIVED_WITHIN_S)
            await self._quiet([page])
        notes = (f"After its return, casts of {unheard} of the others did not reach {victim}.",) if unheard else ()
        return await self._result(Act.ABSENT, page, recorder, before, subject=(victim,), notes=notes)

    async def _collision(self, step: Step) -> ActResult:
        names, pair = self.plan.names, self.plan.colliding()
        step("one first view of each of the other pages")
        # Rows that are not everywhere yet would crash actors as well, and for another reason.
        bystanders = {name: self.plan.bystander(name) for name in names}
        bystanders = {name: page for name, page in bystanders.items() if not await self._one_by_one([name], page)}
        await self.traffic.prepare(dict.fromkeys(names, BYSTANDER_VIEWS + 1))
        page, attempt = self.plan.collision_page(0), 0
        before = await self.cluster.counters()
        async with recording(self._recorder(page)) as recorder:
            for attempt in range(COLLISION_TRIES):
                page = self.plan.collision_page(attempt)
                recorder.turn_to(page)
                before = await self.cluster.counters()
                step(f"{pair[0]} and {pair[1]} count {page}, while others visit other pages")
                # Every node counts a page of its own, so that mailboxes are not empty; nothing of that collides.
                beside = [view for _ in range(BYSTANDER_VIEWS) for view in bystanders.items()]
                middle = len(beside) // 2
                await self.traffic.at_once([*beside[:middle], *((name, page) for name in pair), *beside[middle:]])
                await self._quiet([page, *bystanders.values()])
                after = await self.cluster.counters()
                # Once is enough. More than three crashes of an actor in five seconds would stop its node.
                if damage(before, after).crashes or len(after) < len(names):
                    break
        apart = 0
        for other in bystanders.values():
            counts = await self.reader.wait_and_read(other)
            apart += len(set(counts.values())) > 1
        return await self._result(
            Act.COLLISION,
            page,
            recorder,
            before,
            subject=pair,
            attempts=attempt + 1,
            pages_beside=len(bystanders),
            pages_apart=apart,
        )

    def _recorder(self, page: str) -> Recorder:
        return Recorder(self.reader, page, self.traffic.tally)

    async def _result(
        self,
        act: Act,
        page: str,
        recorder: Recorder,
        before: Mapping[str, NodeCounters],
        *,
        subject: tuple[str, ...] = (),
        attempts: int = 1,
        pages_beside: int = 0,
        pages_apart: int = 0,
        notes: tuple[str, ...] = (),
    ) -> ActResult:
        counts = await self.reader.wait_and_read(page)
        after = await self.cluster.counters()
        harm = damage(before, after)
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
            refused=self.traffic.tally(page, Outcome.REFUSED),
            unknown=self.traffic.tally(page, Outcome.UNKNOWN),
            subject=subject,
            attempts=attempts,
            pages_beside=pages_beside,
            pages_apart=pages_apart,
            notes=(*notes, *stopped),
            samples=recorder.samples,
            marks=tuple(recorder.marks),
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

    async def _quiet(self, pages: Sequence[str]) -> None:
        """Returns when no count of these pages has changed for a while and no cast has arrived meanwhile.

        Returns in any case after `QUIET_WITHIN_S`; then the counts are read as they are.
        """
        deadline = time.monotonic() + QUIET_WITHIN_S
        last: object = None
        received = -1
        since_s = time.monotonic()
        while time.monotonic() < deadline:
            now = [self.reader.read(page) for page in pages]
            if now != last:
                last, since_s = now, time.monotonic()
            elif time.monotonic() - since_s >= QUIET_FOR_S:
                seen = casts_received(await self.cluster.counters())
                if seen == received:
                    return
                received, since_s = seen, time.monotonic() - QUIET_FOR_S / 2
            await asyncio.sleep(QUIET_FOR_S / 14)
