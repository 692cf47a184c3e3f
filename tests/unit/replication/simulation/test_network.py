import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, cast

from cluster.address import Address
from cluster.node import Node
from replication.simulation.loop import VirtualLoop
from replication.simulation.network import Climate, SeededWeather, ShakyCasts

A, B, C = (Address(f"10.0.0.{number}", 7400) for number in (1, 2, 3))
FRAMES = 2000


def weather(climate: Climate, seed: int = 1) -> tuple[SeededWeather, Counter[str]]:
    reached: Counter[str] = Counter()
    return SeededWeather(climate, Random(seed), lambda what: reached.update([what])), reached


def test_frames_are_lost_repeated_and_overtaken_as_often_as_the_climate_says() -> None:
    bad, reached = weather(Climate(frames_lost=0.1, frames_repeated=0.2, frames_overtaken=0.3))
    passages = [bad(A, B) for _ in range(FRAMES)]
    assert reached["frame lost"] == sum(passage.copies == 0 for passage in passages)
    for what, share in (("lost", 0.1), ("repeated", 0.2), ("overtaken", 0.3)):
        assert abs(reached[f"frame {what}"] / FRAMES - share) < 0.04


def test_calm_weather_leaves_nothing_but_latency() -> None:
    calm, reached = weather(Climate(frames_lost=1.0))
    calm.is_calm = True
    assert all(calm(A, B).copies == 1 for _ in range(100))
    assert not reached


def test_a_link_keeps_its_latency_and_each_has_its_own() -> None:
    fair, _ = weather(Climate(latency_max_s=1.0))
    there, back = ([fair(*ends).delay_s for _ in range(100)] for ends in ((A, B), (B, A)))
    assert max(there) <= 2 * min(there)
    assert max(back) <= 2 * min(back)
    assert min(there) != min(back)


def test_everything_from_and_to_a_slow_endpoint_takes_longer() -> None:
    fair, _ = weather(Climate(latency_max_s=0.001))
    fair.slow_down(B, delay_s=1.0, spacing_s=0.5)
    assert fair(A, B).delay_s > 1
    assert fair(B, C).spacing_s == 0.5
    assert fair(A, C).delay_s < 1
    fair.speed_up(B)
    assert fair(A, B).delay_s < 1


def test_one_seed_gives_one_weather() -> None:
    climate = Climate(frames_lost=0.1, frames_repeated=0.2, frames_overtaken=0.3)
    one, other = weather(climate)[0], weather(climate)[0]
    assert [one(A, B) for _ in range(100)] == [other(A, B) for _ in range(100)]


class _Sent:
    """In place of a node: notes what is cast, and when."""

    def __init__(self) -> None:
        self.casts: list[tuple[float, object]] = []

    def cast(self, _node: str, _actor: str, message: object) -> None:
        self.casts.append((asyncio.get_running_loop().time(), message))


def cast_100(climate: Climate, *, is_calm: bool = False) -> Sequence[tuple[float, Any]]:
    sent, (fair, _) = _Sent(), weather(climate)
    fair.is_calm = is_calm

    async def main() -> None:
        casts = ShakyCasts(cast("Node", sent), fair, climate, Random(1), lambda _: None)
        for number in range(100):
            casts.cast("b", "actor", number)
        await asyncio.sleep(60)

    with VirtualLoop() as loop:
        loop.run_until_complete(main())
    return sent.casts


def test_casts_get_lost_one_by_one() -> None:
    assert 30 < len(cast_100(Climate(casts_lost=0.5))) < 70


def test_casts_come_again_later() -> None:
    casts = cast_100(Climate(casts_repeated=1.0, late_max_s=2.0))
    assert Counter(message for _, message in casts) == dict.fromkeys(range(100), 2)
    assert [message for at_s, message in casts if at_s == 0] == list(range(100))
    assert max(at_s for at_s, _ in casts) <= 2


def test_casts_come_late_and_in_another_order() -> None:
    order = [message for _, message in cast_100(Climate(casts_late=1.0))]
    assert sorted(order) == list(range(100)) != order


def test_in_calm_weather_casts_come_as_they_were_sent() -> None:
    casts = cast_100(Climate(casts_lost=1.0, casts_late=1.0), is_calm=True)
    assert casts == [(0.0, number) for number in range(100)]
