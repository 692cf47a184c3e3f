"""What can go wrong in a cluster of mode primary, each kind by its name. It happens to the primary most often."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replication.simulation.one_writer.machine import WriterMachine

if TYPE_CHECKING:
    from replication.simulation.one_writer.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind. `share`: of the seeds that draw it."""

    name: str
    do: Callable[["Scenario"], None]
    is_possible: Callable[["Scenario"], bool] = lambda scenario: bool(scenario.running)
    share: float = 0.35


def _somebody(scenario: "Scenario") -> WriterMachine:
    primary = scenario.primary
    return (
        primary if primary is not None and scenario.random.random() < 0.7 else scenario.random.choice(scenario.running)
    )


def _boot_later(scenario: "Scenario", machine: WriterMachine) -> None:
    def boot() -> None:
        if not machine.is_running:
            machine.is_on = True
            machine.boot()

    scenario.later(6.0, boot)


def _kill(scenario: "Scenario") -> None:
    machine = _somebody(scenario)
    machine.kill()
    _boot_later(scenario, machine)


def _cut_power(scenario: "Scenario") -> None:
    machine = _somebody(scenario)
    scenario.power_was_cut = True
    machine.cut_power()
    _boot_later(scenario, machine)


def _stop(scenario: "Scenario") -> None:
    """In order: a primary hands over first."""
    machine = _somebody(scenario)
    machine.resume()
    task = scenario.world.loop.create_task(machine.stop())
    task.add_done_callback(lambda _: machine.boot() if scenario.is_healing else _boot_later(scenario, machine))


def _pause(scenario: "Scenario") -> None:
    machine = _somebody(scenario)
    machine.pause()
    scenario.later(scenario.random.choice((1.5, 4.0, 9.0)), machine.resume)


def _suspend(scenario: "Scenario") -> None:
    """The primary does not run, and its clock counts a part of that only, as no clock should."""
    machine = scenario.primary
    assert machine is not None, "it is possible"
    random, loop = scenario.random, scenario.world.loop
    began_s, counts_s = loop.time(), random.uniform(1.2, 2.0)
    machine.pause()

    def resume() -> None:
        machine.lost_s += max(0.0, loop.time() - began_s - counts_s)
        machine.resume()

    loop.call_later(random.uniform(7.0, 9.0), resume)


def _partition(scenario: "Scenario") -> None:
    random, network = scenario.random, scenario.world.network
    side = {_somebody(scenario), random.choice(scenario.machines)}
    pairs = [(one.address, other.address) for one in scenario.machines for other in scenario.machines]
    across = [
        (one.address, other.address)
        for one in scenario.machines
        for other in scenario.machines
        if one in side and other not in side
    ]
    break_it = random.choice((network.cut, network.hold, network.hold_one_way))
    for one, other in across:
        break_it(one, other)

    def heal() -> None:
        for one, other in pairs:
            if one != other:
                network.heal(one, other)

    scenario.later(random.choice((1.0, 5.0, 12.0)), heal)


def _slow_link(scenario: "Scenario") -> None:
    weather, address = scenario.world.weather, _somebody(scenario).address
    weather.slow_down(address, delay_s=scenario.random.choice((0.2, 1.0)), spacing_s=0.0)
    scenario.later(8.0, lambda: weather.speed_up(address))


def _slow_engine(scenario: "Scenario") -> None:
    machine = _somebody(scenario)
    machine.slow_down(scenario.random.choice((0.05, 0.5)))
    scenario.later(8.0, lambda: machine.slow_down(0.0))


def _store_down(scenario: "Scenario") -> None:
    scenario.store.is_down = True

    def up() -> None:
        scenario.store.is_down = False

    scenario.later(scenario.random.choice((1.0, 6.0)), up)


def _store_slow(scenario: "Scenario") -> None:
    scenario.store.slow_s = scenario.random.choice((0.4, 2.0, 6.0))

    def quick() -> None:
        scenario.store.slow_s = 0.0

    scenario.later(8.0, quick)


def _store_loses_answers(scenario: "Scenario") -> None:
    scenario.store.loses_answers = 0.5

    def well() -> None:
        scenario.store.loses_answers = 0.0

    scenario.later(8.0, well)


def _hand_over(scenario: "Scenario") -> None:
    machine = scenario.primary
    assert machine is not None, "it is possible"
    machine.begin_call(scenario.hand_over(machine))


def _skew(scenario: "Scenario") -> None:
    machine = scenario.random.choice(scenario.machines)
    machine.skew_ms = scenario.random.choice((-4_000, -100, 100, 4_000))


def _a_primary_is_awake(scenario: "Scenario") -> bool:
    primary = scenario.primary
    return primary is not None and not primary.is_paused


SUSPENDED: Final = Fault(name="suspended, and its clock too", do=_suspend, is_possible=_a_primary_is_awake)
"""In no seed: it is not promised that this is safe, since another node may be granted the lease in the very moment in
which the store is asked. It shows what asking after a stall is for."""

FAULTS: Final = (
    Fault(name="kill", do=_kill),
    Fault(name="power cut", do=_cut_power, share=0.2),
    Fault(name="stop", do=_stop),
    Fault(name="pause", do=_pause, share=0.5),
    Fault(name="partition", do=_partition, share=0.5),
    Fault(name="slow link", do=_slow_link),
    Fault(name="slow engine", do=_slow_engine),
    Fault(name="lease store down", do=_store_down),
    Fault(name="lease store slow", do=_store_slow),
    Fault(name="lease store does not answer", do=_store_loses_answers),
    Fault(
        name="handover",
        do=_hand_over,
        is_possible=_a_primary_is_awake,
        share=0.5,
    ),
    Fault(name="clock skew", do=_skew),
)
