"""Objects that are read before it is their turn: how many, and what becomes of those that nobody wants any more."""

import asyncio

import pytest

from replication.backup.batches import Batch
from replication.backup.errors import BackupDamaged
from replication.backup.names import Stretch
from replication.backup.read_ahead import AHEAD_MAX, AHEAD_OF_SITE, ReadAhead
from replication.engine.stamps import Site, Stamp


def stretches(site: str, count: int) -> list[Stretch]:
    return [Stretch(Site(site * 32), Stamp(number), Stamp(number)) for number in range(count)]


class Store:
    """Answers a question some turns of the loop after it was asked."""

    def __init__(self, damaged: Stretch | None = None) -> None:
        self.asked: list[Stretch] = []
        self.under_way = 0
        self.most = 0
        self.damaged = damaged

    async def read(self, stretch: Stretch) -> Batch | None:
        self.asked.append(stretch)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if stretch == self.damaged:
            raise BackupDamaged("object", "is truncated")
        return Batch(cluster="c", site=stretch.site, links=())


async def test_several_objects_are_read_at_a_time_each_once_and_come_in_their_order() -> None:
    store, wanted = Store(), stretches("a", 10)
    ahead = ReadAhead(store.read)
    for number, stretch in enumerate(wanted):
        await ahead.batch(stretch, wanted[number + 1 :])
    assert store.asked == wanted
    assert store.most == AHEAD_OF_SITE + 1
    await ahead.close()


async def test_of_many_sites_only_so_many_are_read_ahead() -> None:
    store = Store()
    ahead = ReadAhead(store.read)
    for site in "abcdef0123":
        first, *then = stretches(site, 10)
        await ahead.batch(first, then)
    assert len(store.asked) <= 10 + AHEAD_MAX + 1
    await ahead.close()
    assert store.under_way == 0


async def test_damage_of_an_object_is_told_when_it_is_its_turn_and_not_if_nobody_wants_it() -> None:
    wanted = stretches("a", 4)
    ahead = ReadAhead(Store(damaged=wanted[2]).read)
    await ahead.batch(wanted[0], wanted[1:])
    await ahead.batch(wanted[1], wanted[2:])
    with pytest.raises(BackupDamaged):
        await ahead.batch(wanted[2], wanted[3:])
    other = ReadAhead(Store(damaged=wanted[2]).read)
    await other.batch(wanted[0], wanted[1:])
    for _ in range(5):
        await asyncio.sleep(0)
    other.forget(wanted[1:])
    await ahead.close()
    await other.close()
