"""How a simulated cluster ends, whatever it was, and what became of its seed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from replication.simulation.machine import Machine
from replication.simulation.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one seed."""

    seed: int
    wrong: tuple[str, ...]
    """Empty if all is well."""
    reached: Counter[str]
    trace: tuple[str, ...]
    converged_s: float
    virtual_s: float
    steps: int


def end_all(machines: Iterable[Machine]) -> None:
    """Ends what still runs, and gives the disks up."""
    for machine in machines:
        if machine.is_running:
            machine.resume()
            machine.kill()
        machine.disk.close()


def result_of(world: World, *, converged_s: float) -> Result:
    """What became of it, with what nobody in it caught."""
    for context in world.loop.unhandled:
        world.fail(f"nobody caught: {context.get('message')}: {context.get('exception')!r}")
    return Result(
        seed=world.seed,
        wrong=tuple(world.wrong),
        reached=world.reached,
        trace=tuple(world.trace),
        converged_s=converged_s,
        virtual_s=world.loop.time(),
        steps=world.loop.steps,
    )
