"""What can go wrong, each kind by its name.

A fault is done at one moment. What lasts is ended later, by itself or when everything is mended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from replication.simulation.application import Cell, present
from replication.simulation.disk import TROUBLES
from replication.simulation.machine import CLOCK_BOUND_MS, Machine

if TYPE_CHECKING:
    from replication.simulation.scenario import Scenario

MACHINES_MIN: Final = 3
MACHINES_MAX: Final = 7
AHEAD_MS: Final = 600_000
SKEW_MAX_MS: Final = CLOCK_BOUND_MS - 500
"""So far may a clock be off that is not called wrong."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a machine's database, and of the files beside it."""

    of: Machine
    image: bytes
    files: dict[str, bytes]
    pending: set[Cell]
    """What was in the log, and will be stamped again by whoever uses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind. `share`: of the seeds that draw it. `weight`: how often it happens, among those of a seed."""

    name: str
    do: Callable[["Scenario"], None]
    is_possible: Callable[["Scenario"], bool] = lambda scenario: bool(scenario.running)
    share: float = 0.35
    weight: float = 1.0
    needs: str = ""
    """Another kind, which is there wherever this one is."""


def later(scenario: "Scenario", most_s: float, do: Callable[[], None]) -> None:
    """Does it some time later, if it is not mended by then."""

    def then() -> None:
        if not scenario.is_healing:
            do()

    scenario.world.loop.call_later(scenario.random.random() * most_s, then)


def _boot_later(scenario: "Scenario", machine: Machine) -> None:
    if scenario.random.random() < 0.3:
        return  # when everything is mended

    def boot() -> None:
        if not machine.is_running and not machine.is_gone:
            machine.is_on = True
            machine.boot()

    later(scenario, 4.0, boot)


# --- ends of processes ---


def _kill(scenario: "Scenario") -> None:
    machine = scenario.random.choice(scenario.running)
    machine.kill()
    _boot_later(scenario, machine)


def _stop(scenario: "Scenario") -> None:
    machine = scenario.random.choice(scenario.running)
    machine.resume()
    task = scenario.world.loop.create_task(machine.stop())
    task.add_done_callback(lambda _: machine.boot() if scenario.is_healing else _boot_later(scenario, machine))


def _cut_power(scenario: "Scenario") -> None:
    _cut_power_of(scenario, scenario.random.choice([machine for machine in scenario.members if machine.is_on]))


def _cut_power_of(scenario: "Scenario", machine: Machine) -> None:
    before = present(machine.app)
    if machine.cut_power():
        scenario.world.note("commits lost in a power cut")
    _note_loss(scenario, machine, before)
    _boot_later(scenario, machine)


def _cut_power_at_a_commit(scenario: "Scenario") -> None:
    """The power is cut right after one of the next commits on a machine, whoever makes it."""
    machine = scenario.random.choice([machine for machine in scenario.members if machine.is_on])
    disk, told = machine.disk, machine.disk.committed
    at = disk.commits + scenario.random.randint(1, 6)

    def committed() -> None:
        if disk.commits < at or scenario.is_healing:
            told()
            return
        disk.committed = told
        scenario.world.note("power cut at a commit")
        _cut_power_of(scenario, machine)

    disk.committed = committed


def _note_loss(scenario: "Scenario", machine: Machine, before: set[str]) -> None:
    """What a machine had is not there any more."""
    after = present(machine.disk.connect())
    others = [other.disk.connect() for other in scenario.members if other is not machine]
    lost = scenario.oracle.loses(before, after, others)
    for connection in others:
        connection.close()
    if lost:
        scenario.world.note("acknowledged ops lost with the only machine that had them")
        machine.say(f"{lost} ops are lost")


def _pause(scenario: "Scenario") -> None:
    machine = scenario.random.choice(scenario.running)
    machine.pause()
    later(scenario, scenario.random.choice((1.0, 8.0)), machine.resume)


# --- the network ---


def _partition(scenario: "Scenario") -> None:
    """Some machines on one side, some on the other; nothing passes, or only one way."""
    random, network = scenario.random, scenario.world.network
    members = scenario.members
    side = random.sample(members, random.randint(1, len(members) - 1))
    pairs = [(one.address, other.address) for one in side for other in members if other not in side]
    how = random.choice(("cut", "held", "one way"))
    scenario.world.note(f"partition: {how}")
    scenario.world.say("fault", f"partition, {how}: {[machine.name for machine in side]}")
    for one, other in pairs:
        if how == "cut":
            network.cut(one, other)
        elif how == "held":
            network.hold(one, other)
        else:
            network.hold_one_way(one, other)

    def heal() -> None:
        scenario.world.say("fault", "partition ends")
        for one, other in pairs:
            network.heal(one, other)

    later(scenario, random.choice((1.0, 6.0, 20.0)), heal)


def _slow_link(scenario: "Scenario") -> None:
    random, weather = scenario.random, scenario.world.weather
    address = random.choice(scenario.members).address
    weather.slow_down(address, delay_s=random.choice((0.2, 1.0)), spacing_s=random.choice((0.0, 0.05)))
    later(scenario, 10.0, lambda: weather.speed_up(address))


# --- the machine ---


def _slow_engine(scenario: "Scenario") -> None:
    machine = scenario.random.choice(scenario.running)
    machine.slow_down(scenario.random.choice((0.05, 0.5)))
    later(scenario, 10.0, lambda: machine.slow_down(0.0))


_RESTARTS_IN_TROUBLE: Final = 0.2
"""How often somebody thinks that starting the node anew helps."""


def _trouble(scenario: "Scenario") -> None:
    machine, name = scenario.random.choice(scenario.running), scenario.random.choice(list(TROUBLES))
    scenario.world.note(f"disk: {name}")
    machine.disk.trouble = TROUBLES[name]
    if scenario.world.stream(f"restart in trouble at {scenario.world.loop.time()}").random() < _RESTARTS_IN_TROUBLE:
        machine.resume()
        machine.kill()
        machine.boot()

    def end() -> None:
        machine.disk.trouble = None

    later(scenario, 3.0, end)


def _write_many(scenario: "Scenario") -> None:
    scenario.write_many(scenario.random.choice([machine for machine in scenario.members if machine.is_on]))


def _deaf(scenario: "Scenario") -> None:
    """The system does not tell that somebody committed."""
    machine = scenario.random.choice(scenario.members)
    machine.is_notified = False


def _skew(scenario: "Scenario") -> None:
    machine = scenario.random.choice(scenario.members)
    machine.skew_ms = scenario.random.choice((-SKEW_MAX_MS, -3000, -100, 100, 3000, SKEW_MAX_MS))


def _far_off(scenario: "Scenario") -> None:
    """A clock jumps far beyond what the others take, and is set right some seconds later."""
    random = scenario.random
    machine = random.choice(scenario.members)
    before_ms = machine.skew_ms
    machine.skew_ms = random.choice((-1, 1, 1)) * random.randint(25_000, 40_000)
    scenario.world.say("fault", f"the clock of {machine.name} jumps by {machine.skew_ms / 1000:.0f} s")

    def set_right() -> None:
        machine.skew_ms = before_ms

    later(scenario, 6.0, set_right)


def _ahead_alone(scenario: "Scenario") -> None:
    """A machine that hears nobody stamps what is written by a clock far ahead, which is set right before it hears them
    again. Waiting for that time would take longer than anything may."""
    world, random = scenario.world, scenario.random
    world.was_ahead_alone = True
    machine = random.choice(scenario.running)
    others = [other for other in scenario.members if other is not machine]
    world.say("fault", f"{machine.name} is alone, and its clock {AHEAD_MS / 1000:.0f} s ahead")
    for other in others:
        world.network.cut(machine.address, other.address)

    def jump() -> None:
        machine.skew_ms = AHEAD_MS

    def set_right() -> None:
        machine.skew_ms = 0

    def heal() -> None:
        if scenario.is_healing:
            return
        for other in others:
            world.network.heal(machine.address, other.address)

    later(scenario, 1.0, jump)
    world.loop.call_later(2.0 + random.random() * 2.0, set_right)
    world.loop.call_later(4.0 + random.random() * 2.0, heal)


def _migrate(scenario: "Scenario") -> None:
    """The next migrations run on a machine, while its application writes, whether its node runs or not."""
    machine = scenario.random.choice([machine for machine in scenario.members if machine.is_on])
    scenario.migrate(machine, most=scenario.random.choice((1, 1, 2)))


# --- who belongs to the cluster ---


def _join(scenario: "Scenario") -> None:
    """One more machine, with a database of its own."""
    machine = scenario.add_machine()
    scenario.world.say("fault", f"{machine.name} joins")


def _join_with_a_copy(scenario: "Scenario") -> None:
    """One more machine, without a database."""
    machine = scenario.add_machine_without_a_database()
    scenario.world.say("fault", f"{machine.name} joins, and fetches a copy")


def _leave(scenario: "Scenario") -> None:
    """A machine goes and does not come back: in order, or with what only it had."""
    random = scenario.random
    machine = random.choice([machine for machine in scenario.running if not machine.is_paused])

    def gone() -> None:
        machine.is_gone = scenario.oracle.may_miss_beginnings = True
        scenario.world.say("fault", f"{machine.name} left")
        others = [other.disk.connect() for other in scenario.members]
        if scenario.oracle.loses(present(machine.disk.connect()), set(), others):
            scenario.world.note("acknowledged ops lost with the only machine that had them")
        for connection in others:
            connection.close()

    if random.random() < 0.5:
        machine.kill()
        gone()
    else:
        task = scenario.world.loop.create_task(machine.stop())
        task.add_done_callback(lambda _: gone())


# --- copies and restores ---


def _back_up(scenario: "Scenario") -> None:
    """A copy of a database as it is, whatever its log holds; and of the files beside it, if the machine is copied."""
    machine = scenario.random.choice(scenario.members)
    pending = scenario.oracle.pending(machine.app) if machine.is_on else None
    if pending is not None:
        scenario.backups.append(Backup(machine, machine.disk.image(), dict(machine.disk.files), pending))


def _put_back(scenario: "Scenario", machine: Machine, backup: Backup, *, files: bool = False) -> None:
    """Another database in place of a machine's."""
    scenario.world.was_restored = scenario.oracle.was_restored = scenario.oracle.may_miss_beginnings = True
    connection = machine.disk.connect()
    before = present(connection)
    connection.close()
    machine.restore(backup.image, is_own=machine is backup.of)
    if files:
        machine.disk.files.clear()
        machine.disk.files.update(backup.files)
    scenario.oracle.stamped_again |= backup.pending
    _note_loss(scenario, machine, before)


def _restore_under_the_node(scenario: "Scenario") -> None:
    """By whatever writes into the file that the node has open."""
    random = scenario.random
    machine, backup = random.choice(scenario.running), random.choice(scenario.backups)
    scenario.world.say("fault", f"{machine.name} has a copy of {backup.of.name} put under its node")
    _put_back(scenario, machine, backup)


def _restore(scenario: "Scenario") -> None:
    """An older copy of its own, of another machine, or the whole machine as it was, while the node is down."""
    random = scenario.random
    backup = random.choice(scenario.backups)
    how = random.choice(("its own", "another's", "the whole machine"))
    machine = random.choice(scenario.members) if how == "another's" else backup.of
    if machine.is_gone:
        return
    scenario.world.note(f"restore: {how}")
    scenario.world.say("fault", f"{machine.name} gets a copy of {backup.of.name}: {how}")
    if machine.is_running:
        machine.kill()
    if how != "another's":
        scenario.world.may_fork = True  # in the run in which it was made, only the peers can tell that it is older
    _put_back(scenario, machine, backup, files=how == "the whole machine")
    _boot_later(scenario, machine)


def _restore_several(scenario: "Scenario") -> None:
    """The same older copy on two machines, while their nodes are down: as when a whole site was put back."""
    random = scenario.random
    backup = random.choice(scenario.backups)
    machines = random.sample(scenario.members, 2)
    scenario.world.say("fault", f"{[one.name for one in machines]} get a copy of {backup.of.name}")
    scenario.world.may_fork = True
    for machine in machines:
        if machine.is_running:
            machine.kill()
        _put_back(scenario, machine, backup)
        _boot_later(scenario, machine)


def _copy_beside(scenario: "Scenario") -> None:
    """A copy of a running machine's database on a new machine."""
    random = scenario.random
    origin = random.choice(scenario.members)
    scenario.world.was_restored = scenario.oracle.was_restored = True
    scenario.oracle.stamped_again |= scenario.oracle.pending(origin.disk.connect())
    is_clone = random.random() < 0.3
    if is_clone:
        scenario.world.note("clone of a whole machine")
        scenario.world.may_fork = True
    machine = scenario.add_machine(origin.disk.copy(files=is_clone))
    scenario.world.say("fault", f"{machine.name} is {'a clone' if is_clone else 'begun with a copy'} of {origin.name}")


def _may_leave(scenario: "Scenario") -> bool:
    return len(scenario.members) > MACHINES_MIN and any(not machine.is_paused for machine in scenario.running)


AHEAD_ALONE: Final = Fault(
    name="clock far ahead, alone",
    do=_ahead_alone,
    is_possible=lambda scenario: len(scenario.running) > 1 and not scenario.world.was_ahead_alone,
    share=0.15,
    weight=3,
)
"""Drawn by itself, once in a seed, and only where nobody has a copy of a database, or is away for good: what was
stamped so far ahead is stamped again when everybody has said what is merged of it, if nobody has merged it all: neither
a copy, nor another machine with such a clock."""
NOT_WITH_AHEAD_ALONE: Final = frozenset(
    {"backup", "restore under the node", "restore", "restore several", "copy beside", "join with a copy", "leave"}
)

MIGRATE: Final = Fault(
    name="migration",
    do=_migrate,
    is_possible=lambda scenario: any(machine.is_on for machine in scenario.members),
    share=0.25,
    weight=4,
)
"""Drawn by itself."""

BACK_UP: Final = Fault(name="backup", do=_back_up, share=0.1, weight=3)

JOIN_WITH_A_COPY: Final = Fault(
    name="join with a copy",
    do=_join_with_a_copy,
    is_possible=lambda scenario: scenario.has_room and bool(scenario.running),
    share=0.12,
    weight=2,
)
RESTORE_SEVERAL: Final = Fault(
    name="restore several",
    do=_restore_several,
    is_possible=lambda scenario: bool(scenario.backups) and len(scenario.members) > 1,
    share=0.05,
    weight=3,
)
LARGE_TRANSACTION: Final = Fault(
    name="large transaction",
    do=_write_many,
    is_possible=lambda scenario: any(machine.is_on for machine in scenario.members),
    share=0.15,
    weight=2,
)
BY_THEMSELVES: Final = (JOIN_WITH_A_COPY, RESTORE_SEVERAL, LARGE_TRANSACTION)
"""Each drawn from a stream of its own: seeds without them are as they were before there were any."""

FAULTS: Final = (
    Fault(name="kill", do=_kill, weight=2),
    Fault(name="stop", do=_stop),
    Fault(
        name="power cut",
        do=_cut_power,
        is_possible=lambda scenario: any(machine.is_on for machine in scenario.members),
        weight=2,
    ),
    Fault(
        name="power cut at a commit",
        do=_cut_power_at_a_commit,
        is_possible=lambda scenario: any(machine.is_on for machine in scenario.members),
        weight=2,
    ),
    Fault(name="pause", do=_pause),
    Fault(
        name="partition",
        do=_partition,
        is_possible=lambda scenario: len(scenario.members) > 1 and bool(scenario.running),
        weight=3,
        share=0.5,
    ),
    Fault(name="slow link", do=_slow_link),
    Fault(name="slow engine", do=_slow_engine),
    Fault(name="disk trouble", do=_trouble),
    Fault(name="deaf", do=_deaf),
    Fault(name="clock skew", do=_skew, share=0.5),
    Fault(name="clock far off", do=_far_off, share=0.15),
    # Not while all disks are lost: who begins anew then is the cluster, and the bucket has another one.
    Fault(name="join", do=_join, is_possible=lambda scenario: scenario.has_room and bool(scenario.members), share=0.25),
    BACK_UP,
    Fault(
        name="restore under the node",
        do=_restore_under_the_node,
        is_possible=lambda scenario: bool(scenario.running and scenario.backups),
        share=0.15,
        weight=4,
        needs="backup",
    ),
    Fault(
        name="restore",
        do=_restore,
        is_possible=lambda scenario: bool(scenario.backups),
        share=0.2,
        weight=4,
        needs="backup",
    ),
    Fault(
        name="copy beside",
        do=_copy_beside,
        is_possible=lambda scenario: scenario.has_room,
        share=0.1,
    ),
    Fault(name="leave", do=_leave, is_possible=_may_leave, share=0.15),
)
