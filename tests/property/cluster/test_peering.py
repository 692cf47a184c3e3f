"""Two machines of `peering`, connected by a network that opens and loses connections as it likes.

Whatever it does, ups and downs alternate, what arrives between an up and the next down is the beginning of one session
of the other side, without a hole, and once the network is good again both sides are up.
"""

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.address import Address
from cluster.counters import Count, Counters
from cluster.peering import (
    Close,
    Conflict,
    Deliver,
    Dialled,
    Down,
    Effect,
    Found,
    Peering,
    Refused,
    Reply,
    Send,
    Up,
)
from cluster.wire import Batch, Begin, Cast, Frame, Goodbye, Heartbeat, Hello

ROUNDS_TO_RECOVER = 8  # of exchanging everything; a session takes three to stand


@dataclass(eq=False)
class Wire:
    """One connection: frames there and back, each in order. `alive` is false once either end knows it is lost."""

    address: Address
    dialler: "Machine"
    there: deque[Frame] = field(default_factory=deque)
    back: deque[Frame] = field(default_factory=deque)
    opened: bool = False
    alive: bool = True

    def send(self, frame: bytes) -> bool:
        raise AssertionError("effects carry frames, not bytes")

    def close(self) -> None:
        raise AssertionError("effects say what to close")


@dataclass(frozen=True)
class Link:
    """The receiving end of a wire, as the other side's inbox names it."""

    wire: Wire


@dataclass(eq=False)
class Machine:
    """One side: its peering, what it has dialled, and what its bus would have seen."""

    name: str
    addresses: int = 1  # under how many it dials the other
    wires: list[Wire] = field(default_factory=list)
    incarnation: int = 0
    session: int = 0
    sequence: int = 0
    outgoing: Wire | None = None
    is_up: bool = False
    up_incarnation: str = ""
    arrived: list[tuple[int, int, int]] = field(default_factory=list)
    sent: dict[tuple[int, int], int] = field(default_factory=dict)
    resting: set[Address] = field(default_factory=set)
    counters: Counters = field(default_factory=Counters)
    other: "Machine" = field(init=False)
    peering: Peering = field(init=False)

    def start(self) -> None:
        self.incarnation += 1
        me = Hello(
            cluster="c",
            node=self.name,
            incarnation=f"{self.name}{self.incarnation}",
            region="r",
            address=f"tcp://{self.name}:1",
            started_at_ms=self.incarnation,
        )
        self.peering = Peering(me, self.counters)
        self.is_up, self.outgoing, self.wires, self.arrived, self.resting = False, None, [], [], set()

    # --- the bus ---

    def dial(self) -> None:
        for number in range(self.addresses):
            address = Address(self.other.name, 1 + number)
            if address not in self.resting and not any(w.alive and w.address == address for w in self.wires):
                self.wires.append(Wire(address, self))

    def cast(self) -> None:
        if self.is_up and self.outgoing is not None:
            self.session_sent(1)
            message = Cast("a", (self.incarnation, self.session, self.sequence))
            self.outgoing.there.append(Batch(self.sequence, [message]))
            self.sequence += 1

    def session_sent(self, count: int) -> None:
        key = (self.incarnation, self.session)
        self.sent[key] = self.sent.get(key, 0) + count

    def beat(self) -> None:
        for wire in self.wires:
            if wire.alive and wire is self.outgoing:
                wire.there.append(Heartbeat(self.sequence))

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(connection, frame):
                    assert isinstance(connection, Wire)
                    if connection.alive:
                        connection.there.append(frame)
                case Reply(sender, frame):
                    assert isinstance(sender, Link)
                    if sender.wire.alive:
                        sender.wire.back.append(frame)
                case Close(connection):
                    assert isinstance(connection, Wire)
                    connection.alive = False  # what was sent before may still arrive
                    connection.back.clear()
                    if connection is self.outgoing:
                        self.outgoing = None
                case Up(hello, connection):
                    assert not self.is_up, "up twice"
                    assert isinstance(connection, Wire)
                    assert connection is self.outgoing
                    self.is_up, self.up_incarnation = True, hello.incarnation
                    self.arrived = []
                case Down(hello):
                    assert self.is_up, "down without up"
                    assert hello.incarnation == self.up_incarnation
                    self.is_up = False
                case Deliver(node, batch):
                    assert self.is_up, "delivered outside of a session"
                    assert node == self.other.name
                    self.deliver(batch)
                case Dialled(connection, node):
                    assert isinstance(connection, Wire)
                    if node is None:
                        self.resting.add(connection.address)
                    else:
                        self.outgoing, self.sequence = connection, 0
                        self.session += 1
                case Found():
                    self.dial()
                case Conflict() | Refused():
                    raise AssertionError(effect)

    def deliver(self, batch: Batch) -> None:
        for message in batch.messages:
            assert isinstance(message, Cast)
            assert isinstance(message.payload, tuple)
            incarnation, session, sequence = message.payload
            assert f"{self.other.name}{incarnation}" == self.up_incarnation
            if self.arrived:
                assert self.arrived[-1][:2] == (incarnation, session), "two sessions of the sender in one of ours"
            assert sequence == len(self.arrived), "a hole, or something twice"
            self.arrived.append((incarnation, session, sequence))


class Simulation:
    """Both machines and the wires between them. Time is a number that only grows."""

    def __init__(self, addresses: tuple[int, int]) -> None:
        self.a, self.b = Machine("a", addresses[0]), Machine("b", addresses[1])
        self.a.other, self.b.other = self.b, self.a
        self.now_s = 0.0
        self.wires: list[Wire] = []
        for machine in (self.a, self.b):
            machine.start()
            machine.dial()

    def all_wires(self) -> list[Wire]:
        for machine in (self.a, self.b):
            self.wires += [wire for wire in machine.wires if wire not in self.wires]
        self.wires = [wire for wire in self.wires if wire.alive or wire.there]
        return self.wires

    def forward(self, wire: Wire) -> None:
        """One frame towards the inbox."""
        self.now_s += 0.001
        if wire.there:
            machine = wire.dialler.other
            link = Link(wire)
            frame = wire.there.popleft()
            match frame:
                case Hello():
                    machine.apply(machine.peering.hello(link, frame, self.now_s))
                case Begin():
                    machine.apply(machine.peering.begin(link, frame, self.now_s))
                case Batch():
                    machine.apply(machine.peering.batch(link, frame, self.now_s))
                case Heartbeat():
                    machine.apply(machine.peering.heartbeat(link, frame, self.now_s))
                case Goodbye():
                    machine.apply(machine.peering.goodbye(link))
                case _:
                    raise AssertionError(frame)

    def answer(self, wire: Wire) -> None:
        """One frame back to who dialled."""
        self.now_s += 0.001
        if wire.back and wire.alive:
            frame = wire.back.popleft()
            wire.dialler.apply(wire.dialler.peering.answered(wire, frame, self.now_s))

    def open(self, wire: Wire) -> None:
        if wire.alive and not wire.opened:
            wire.opened = True
            wire.dialler.apply(wire.dialler.peering.opened(wire))

    def lose(self, wire: Wire, *, keep: int) -> None:
        """The connection breaks; `keep` frames still arrive at the inbox."""
        if wire.alive:
            wire.alive = False
            while len(wire.there) > keep:
                wire.there.pop()
            wire.back.clear()
            if wire is wire.dialler.outgoing:
                wire.dialler.outgoing = None
            wire.dialler.apply(wire.dialler.peering.lost(wire))

    def restart(self, machine: Machine) -> None:
        """The process dies and another one takes its place; everything connected to it breaks."""
        for wire in list(self.all_wires()):
            wire.there.clear()
            if wire.dialler is machine:
                wire.alive = False  # nobody is told: the inbox at the other end notices nothing
            else:
                self.lose(wire, keep=0)
        machine.start()
        machine.dial()

    def round(self) -> None:
        """Everything that is under way arrives, and what that leads to, once."""
        self.a.dial()
        self.b.dial()
        for wire in list(self.all_wires()):
            self.open(wire)
            for _ in range(len(wire.there)):
                self.forward(wire)
            for _ in range(len(wire.back)):
                self.answer(wire)
        self.a.beat()
        self.b.beat()

    def settle(self) -> None:
        for _ in range(ROUNDS_TO_RECOVER):
            self.round()


ORDERS = ["forward"] * 3 + ["answer", "open", "cast"] * 2
ORDERS += ["lose", "dial", "beat", "round", "unreachable", "restart", "goodbye"]
numbers = st.integers(0, 9)
faults = st.lists(
    st.tuples(
        st.sampled_from(ORDERS),
        st.booleans(),
        numbers,
    ),
    max_size=120,
)


def play(simulation: Simulation, orders: list[tuple[str, bool, int]]) -> None:
    for order, first, number in orders:
        machine = simulation.a if first else simulation.b
        wires = simulation.all_wires()
        wire = wires[number % len(wires)] if wires else None
        match order:
            case "forward" if wire is not None:
                simulation.forward(wire)
            case "answer" if wire is not None:
                simulation.answer(wire)
            case "open" if wire is not None:
                simulation.open(wire)
            case "lose" if wire is not None:
                simulation.lose(wire, keep=number // 3)
            case "dial":
                machine.dial()
            case "cast":
                machine.cast()
            case "beat":
                machine.beat()
            case "round":
                simulation.round()
            case "unreachable":
                machine.apply(machine.peering.unreachable(machine.other.name))
            case "restart":
                simulation.restart(machine)
            case "goodbye":
                machine.apply(machine.peering.stop())
            case _:
                pass


@given(orders=faults, addresses=st.tuples(st.integers(1, 3), st.integers(1, 3)))
@settings(max_examples=300)
def test_sessions_are_gapless_and_both_sides_are_up_when_the_faults_stop(
    orders: list[tuple[str, bool, int]], addresses: tuple[int, int]
) -> None:
    simulation = Simulation(addresses)
    play(simulation, orders)
    simulation.settle()
    a, b = simulation.a, simulation.b
    assert a.is_up
    assert b.is_up
    assert a.up_incarnation == f"b{b.incarnation}"
    for _ in range(3):
        before = (len(a.arrived), len(b.arrived))
        a.cast()
        b.cast()
        simulation.round()
        simulation.round()
        assert (len(a.arrived), len(b.arrived)) == (before[0] + 1, before[1] + 1)
    assert a.counters.get(Count.GAP) == b.counters.get(Count.GAP) == 0


@given(addresses=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_aliases_disturb_nobody_when_they_are_dialled_again(addresses: tuple[int, int]) -> None:
    simulation = Simulation(addresses)
    simulation.settle()
    ups = (simulation.a.session, simulation.b.session)
    for _ in range(20):
        for machine in (simulation.a, simulation.b):
            machine.resting.clear()  # as if the rest were over
            machine.cast()
        simulation.round()
        assert simulation.a.is_up
        assert simulation.b.is_up
    assert (simulation.a.session, simulation.b.session) == ups
    assert len(simulation.a.arrived) >= 18


@given(orders=faults, addresses=st.tuples(st.integers(1, 2), st.integers(1, 2)))
@settings(max_examples=100)
def test_nothing_is_kept_of_links_that_ended(orders: list[tuple[str, bool, int]], addresses: tuple[int, int]) -> None:
    simulation = Simulation(addresses)
    for _ in range(5):
        play(simulation, orders)
        simulation.settle()
    for machine in (simulation.a, simulation.b):
        peering = machine.peering
        assert len(peering._by_connection) <= 1
        assert len(peering._by_sender) <= 1
        assert len(peering._by_offer) <= 16
        assert len(peering._peers) == 1
