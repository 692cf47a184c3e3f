import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest

from replication.simulation.loop import NothingWillHappen, Runaway, VirtualLoop
from replication.simulation.outside import NotSimulated


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with VirtualLoop() as loop:
        yield loop
        assert loop.unhandled == []


def test_an_hour_takes_no_time(loop: VirtualLoop) -> None:
    began_s = time.monotonic()
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() == 3600
    assert time.monotonic() - began_s < 1


def test_timers_come_in_their_order_and_those_of_one_instant_as_they_were_set(loop: VirtualLoop) -> None:
    seen: list[str] = []

    async def main() -> None:
        for at_s, what in ((2, "c"), (1, "a"), (2, "d"), (1, "b"), (2, "e")):
            loop.call_later(at_s, seen.append, what)
        await asyncio.sleep(3)

    loop.run_until_complete(main())
    assert seen == ["a", "b", "c", "d", "e"]


def test_what_is_ready_comes_before_time_moves(loop: VirtualLoop) -> None:
    seen: list[tuple[str, float]] = []

    def again(times: int) -> None:
        seen.append(("ready", loop.time()))
        if times:
            loop.call_soon(again, times - 1)

    async def main() -> None:
        loop.call_later(0.001, lambda: seen.append(("timer", loop.time())))
        again(5)
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert seen == [("ready", 0)] * 6 + [("timer", 0.001)]


def test_a_cancelled_timer_does_not_run_and_does_not_stay(loop: VirtualLoop) -> None:
    async def main() -> None:
        for _ in range(10_000):
            loop.call_later(100, pytest.fail).cancel()
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert loop.time() == 1
    assert len(loop._timers) < 200


def test_a_timeout_is_one_of_virtual_time(loop: VirtualLoop) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()

    loop.run_until_complete(main())
    assert loop.time() == 60


def test_the_usual_tools_of_asyncio_work(loop: VirtualLoop) -> None:
    async def main() -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(queue.put(number))
        got, _ = await asyncio.wait([asyncio.ensure_future(queue.get()) for _ in range(3)])
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(2))
        return sorted(task.result() for task in got)

    assert loop.run_until_complete(main()) == [0, 1, 2]


def test_that_nothing_will_ever_happen_is_an_error(loop: VirtualLoop) -> None:
    with pytest.raises(NothingWillHappen, match="no timer is set"):
        loop.run_until_complete(asyncio.Event().wait())


def test_an_endless_circle_at_one_instant_is_an_error(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.simulation.loop.STEPS_MAX", 1000)

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Runaway, match="1000 callbacks at 0"):
        loop.run_until_complete(main())


def test_what_a_thread_is_asked_for_runs_here_when_its_turn_comes(loop: VirtualLoop) -> None:
    def fail() -> None:
        raise ValueError("so it is")

    async def main() -> int:
        asked = asyncio.ensure_future(asyncio.to_thread(threading.get_ident))
        asyncio.ensure_future(asyncio.to_thread(pytest.fail)).cancel()
        with pytest.raises(ValueError, match="so it is"):
            await asyncio.to_thread(fail)
        return await asked

    assert loop.run_until_complete(main()) == threading.get_ident()


def test_a_thread_of_ones_own_is_refused(loop: VirtualLoop) -> None:
    with pytest.raises(NotSimulated, match="a thread of one's own: a simulation has one thread"):
        loop.set_default_executor(None)
    with ThreadPoolExecutor() as executor, pytest.raises(NotSimulated, match="a thread of one's own"):
        loop.run_in_executor(executor, time.monotonic)  # type: ignore[arg-type, unused-awaitable]


def test_a_call_from_another_thread_is_refused(loop: VirtualLoop) -> None:
    raised: list[Exception] = []

    def call() -> None:
        try:
            loop.call_soon_threadsafe(pytest.fail)
        except NotSimulated as error:
            raised.append(error)

    thread = Thread(target=call)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_a_socket_is_refused(loop: VirtualLoop) -> None:
    with pytest.raises(NotSimulated, match="a connection"):
        loop.run_until_complete(asyncio.open_connection("127.0.0.1", 1))


def test_an_error_that_nobody_caught_is_kept() -> None:
    with VirtualLoop() as loop:
        loop.call_soon(lambda: 1 // 0)
        loop.run_until_complete(asyncio.sleep(1))
        assert [type(context["exception"]) for context in loop.unhandled] == [ZeroDivisionError]


def test_sets_of_tasks_have_one_order() -> None:
    def order() -> list[str]:
        async def main() -> list[str]:
            tasks = {asyncio.ensure_future(asyncio.sleep(0)) for _ in range(100)}
            names = [task.get_name() for task in tasks]
            await asyncio.gather(*tasks)
            return names

        with VirtualLoop() as loop:
            return loop.run_until_complete(main())

    ballast = [object() for _ in range(1000)]
    first = order()
    ballast += [bytearray(1000) for _ in range(1000)]
    assert first == order()


async def _note(seen: list[str], every_s: float) -> None:
    try:
        while True:
            seen.append("on")
            await asyncio.sleep(every_s)
    finally:
        seen.append("closed")


def test_nothing_of_a_life_that_ended_runs_again(loop: VirtualLoop) -> None:
    seen: list[str] = []
    life = loop.begin("a")

    async def main() -> None:
        _ = life.create_task(_note(seen, 1))
        life.call(loop.call_later, 5, seen.append, "timer")
        await asyncio.sleep(2.5)
        life.call(loop.call_soon, seen.append, "soon")
        life.end()
        await asyncio.sleep(10)

    loop.run_until_complete(main())
    assert seen == ["on", "on", "on", "closed"]


def test_what_a_task_of_a_life_begins_belongs_to_it(loop: VirtualLoop) -> None:
    seen: list[str] = []
    life = loop.begin("a")

    async def parent() -> None:
        _ = asyncio.get_running_loop().create_task(_note(seen, 1))
        await asyncio.sleep(0)

    async def main() -> None:
        await life.create_task(parent())
        await asyncio.sleep(1.5)
        life.end()
        await asyncio.sleep(10)

    loop.run_until_complete(main())
    assert seen == ["on", "on", "closed"]


def test_one_life_ends_and_another_goes_on(loop: VirtualLoop) -> None:
    ended: list[str] = []
    going_on: list[str] = []

    async def main() -> None:
        one, other = loop.begin("one"), loop.begin("other")
        _ = one.create_task(_note(ended, 1))
        _ = other.create_task(_note(going_on, 1))
        await asyncio.sleep(0.5)
        one.end()
        await asyncio.sleep(3)

    loop.run_until_complete(main())
    assert ended == ["on", "closed"]
    assert going_on == ["on"] * 4


def test_a_paused_life_does_later_and_in_order_what_became_due(loop: VirtualLoop) -> None:
    seen: list[tuple[str, float]] = []
    life = loop.begin("a")

    def later(at_s: float, what: str) -> None:
        loop.call_later(at_s, lambda: seen.append((what, loop.time())))

    async def main() -> None:
        for at_s, what in ((1, "a"), (2, "b"), (3, "c"), (30, "d")):
            life.call(later, at_s, what)
        await asyncio.sleep(1.5)
        life.pause()
        await asyncio.sleep(10)
        life.resume()
        await asyncio.sleep(30)

    loop.run_until_complete(main())
    assert seen == [("a", 1), ("b", 11.5), ("c", 11.5), ("d", 30)]


def test_a_coroutine_that_minds_being_closed_is_ended_all_the_same(loop: VirtualLoop) -> None:
    seen: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            seen.append("still here")

    async def main() -> None:
        life = loop.begin("a")
        _ = life.create_task(stubborn())
        await asyncio.sleep(1)
        life.end()
        await asyncio.sleep(1000)

    loop.run_until_complete(main())
    assert seen == []
