"""How a cluster's cost grows with its nodes, on virtual time. `make sim CURVE=1` prints it.

Each size is one run in good weather: all nodes boot at once; then nobody writes; then some write, so many commits a
second in all whatever the size, each node in turn. Frames are counted as the network in memory sees them, so what a
bus puts into one frame counts once. Times are virtual, and depend on the latency alone; the same numbers come out on
every machine, but for the last column."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from cluster.address import Address
from cluster.memory import Passage
from replication.attaching_declared import attach_declared
from replication.engine.folding import is_due
from replication.engine.sites import vector
from replication.engine.stamps import Site
from replication.simulation.application import CLUSTER, DECLARED, SCHEMA
from replication.simulation.disk import Disk
from replication.simulation.loop import VirtualLoop
from replication.simulation.machine import Machine
from replication.simulation.network import Climate
from replication.simulation.world import World

SIZES: Final = (3, 5, 7, 10, 20, 35, 50)
LATENCY_S: Final = 0.005
IDLE_S: Final = 30.0
WRITING_S: Final = 20.0
COMMITS_PER_S: Final = 10
_LOOKS_EVERY_S: Final = 0.001
_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One size. Frames are per node and second, sent; `equal_s`: from the last commit until all files are equal."""

    nodes: int
    joined_s: float
    idle_frames: float
    writing_frames: float
    equal_s: float
    took_s: float


class _Weather:
    """Every frame takes the same time, and is counted by its sender."""

    def __init__(self) -> None:
        self.sent: Counter[Address] = Counter()

    def __call__(self, source: Address, _target: Address) -> Passage:
        self.sent[source] += 1
        return Passage(delay_s=LATENCY_S)


def measure(nodes: int) -> Point:
    """Runs one size."""
    began_s = time.monotonic()
    with VirtualLoop() as loop:
        joined_s, idle, writing, equal_s = loop.run_until_complete(_run(nodes, loop))
    return Point(
        nodes=nodes,
        joined_s=joined_s,
        idle_frames=idle / nodes / IDLE_S,
        writing_frames=writing / nodes / WRITING_S,
        equal_s=equal_s,
        took_s=time.monotonic() - began_s,
    )


async def _run(nodes: int, loop: VirtualLoop) -> tuple[float, int, int, float]:
    world, weather = World(0, loop, Climate()), _Weather()
    world.network.weather = weather
    machines = [_machine(world, number) for number in range(nodes)]
    try:
        for machine in machines:
            machine.boot()
        await _until(lambda: all(_is_ready(machine, nodes - 1) for machine in machines))
        joined_s = loop.time()
        await asyncio.sleep(5.0)  # whoever was told twice has been by now
        before = weather.sent.total()
        await asyncio.sleep(IDLE_S)
        idle = weather.sent.total() - before
        before = weather.sent.total()
        for number in range(int(WRITING_S * COMMITS_PER_S)):
            await asyncio.sleep(1 / COMMITS_PER_S)
            app = machines[number % nodes].app
            app.execute("INSERT INTO pages VALUES (?, 1, 't') ON CONFLICT DO UPDATE SET n = n + 1", (f"{number % 50}",))
        writing = weather.sent.total() - before
        last_s = loop.time()
        await _until(lambda: _are_equal(machines))
        return joined_s, idle, writing, loop.time() - last_s
    finally:
        for machine in machines:
            machine.kill()
            machine.disk.close()


def _machine(world: World, number: int) -> Machine:
    disk = Disk()
    connection = disk.connect(full=True)
    for statement in SCHEMA:
        connection.execute(statement)
    site = Site(f"{Random(number).getrandbits(128):032x}")
    attach_declared(connection, DECLARED, cluster=CLUSTER, new_site=lambda: site)
    disk.kill()
    return Machine(world, f"n{number}", world.new_address(), disk, full=False, stalls=0.0)


def _is_ready(machine: Machine, peers: int) -> bool:
    node, replication = machine.node, machine.replication
    return (
        node is not None
        and replication is not None
        and node.joined
        and len(node.peers()) == peers
        and replication.status().ready
    )


def _are_equal(machines: list[Machine]) -> bool:
    first = vector(machines[0].app)
    return all(not is_due(machine.app) and vector(machine.app) == first for machine in machines)


async def _until(condition: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _WITHIN_S
    while not condition():
        assert loop.time() < deadline_s, f"not within {_WITHIN_S:g} s"
        await asyncio.sleep(_LOOKS_EVERY_S)
