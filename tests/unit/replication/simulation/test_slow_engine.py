import asyncio
from random import Random

import pytest

from replication.simulation.loop import VirtualLoop
from replication.simulation.slow_engine import SlowEngine


def test_functions_run_in_the_order_of_the_calls_and_take_time() -> None:
    async def main() -> list[int]:
        engine, seen = SlowEngine(Random(1), stalls=0.5), list[int]()
        await asyncio.gather(*(engine.run(lambda number=number: seen.append(number)) for number in range(20)))  # type: ignore[misc]
        assert asyncio.get_running_loop().time() > 0
        return seen

    with VirtualLoop() as loop:
        assert loop.run_until_complete(main()) == list(range(20))


def test_results_come_in_the_order_of_the_calls() -> None:
    async def main() -> list[int]:
        engine, seen = SlowEngine(Random(1), stalls=0.5), list[int]()

        async def call(number: int) -> None:
            await engine.run(lambda: None)
            seen.append(number)

        await asyncio.gather(*(call(number) for number in range(50)))
        return seen

    with VirtualLoop() as loop:
        assert loop.run_until_complete(main()) == list(range(50))


def test_what_a_function_raises_its_caller_gets_and_the_next_one_runs() -> None:
    async def main() -> int:
        engine = SlowEngine(Random(1), stalls=0)
        with pytest.raises(ZeroDivisionError):
            await engine.run(lambda: 1 // 0)
        return await engine.run(lambda: 7)

    with VirtualLoop() as loop:
        assert loop.run_until_complete(main()) == 7
        assert loop.unhandled == []


def test_a_function_runs_though_its_caller_has_stopped_waiting() -> None:
    async def main() -> list[str]:
        engine, seen = SlowEngine(Random(1), stalls=0), list[str]()
        waiting = asyncio.ensure_future(engine.run(lambda: seen.append("ran")))
        await asyncio.sleep(0)
        waiting.cancel()
        await engine.close()
        return seen

    with VirtualLoop() as loop:
        assert loop.run_until_complete(main()) == ["ran"]


def test_a_slow_engine_takes_so_much_longer() -> None:
    async def main() -> float:
        engine = SlowEngine(Random(1), stalls=0)
        engine.slow_s = 2.0
        await engine.run(lambda: None)
        return asyncio.get_running_loop().time()

    with VirtualLoop() as loop:
        assert loop.run_until_complete(main()) > 4
