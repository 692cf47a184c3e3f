"""What one frame means to a node: which links are let in, which are refused, and what ends a session."""

from dataclasses import replace
from itertools import count

import pytest

from cluster.address import Address
from cluster.counters import Count, Counters
from cluster.peering import (
    HELD_MAX_FRAMES,
    Close,
    Conflict,
    Deliver,
    Dialled,
    Down,
    DownReason,
    Effect,
    Found,
    Peering,
    Reply,
    Send,
    Up,
)
from cluster.wire import (
    Batch,
    Begin,
    Cast,
    Goodbye,
    Heartbeat,
    Hello,
    Refusal,
    Refuse,
    Reset,
    ResetLink,
    Welcome,
)

ME = Hello(cluster="c", node="a", incarnation="a1", region="r", address="tcp://10.0.0.1:7400", started_at_ms=1_000)
THEM = Hello(cluster="c", node="b", incarnation="b1", region="r", address="tcp://10.0.0.2:7400", started_at_ms=2_000)
SUCCESSOR = replace(THEM, incarnation="b2", started_at_ms=3_000)


class Wire:
    """A connection that we dialled."""

    numbers = count()

    def __init__(self) -> None:
        self.address = Address("10.0.0.2", 7400)
        self.number = next(self.numbers)

    def send(self, frame: bytes) -> bool:
        raise AssertionError(frame)

    def close(self) -> None:
        raise AssertionError("effects say what to close")


class Node:
    """A `Peering` with its counters."""

    def __init__(self, me: Hello = ME) -> None:
        self.counters = Counters()
        self.peering = Peering(me, self.counters)

    def dialled(self, hello: Hello = THEM, session: int = 0) -> tuple[Wire, list[Effect]]:
        """Our link is welcomed."""
        wire = Wire()
        assert self.peering.opened(wire) == [Send(wire, ME)]
        return wire, self.peering.answered(wire, Welcome(hello, session), 0.0)

    def begun(self, sender: str, hello: Hello = THEM, session: int = 0) -> list[Effect]:
        """Its link begins."""
        return [*self.peering.hello(sender, hello, 0.0), *self.peering.begin(sender, Begin(session), 0.0)]

    def up(self) -> Wire:
        wire, _ = self.dialled()
        assert Up(THEM, wire) in self.begun("s1")
        return wire


def batch(first: int, size: int = 1) -> Batch:
    return Batch(first, [Cast("x", number) for number in range(first, first + size)])


# --- the handshake ---


def test_peer_is_up_when_both_links_have_begun_whichever_is_first() -> None:
    node = Node()
    wire, effects = node.dialled()
    assert effects == [Dialled(wire, "b"), Send(wire, Begin(0))]
    assert not node.peering.is_up("b")
    assert Up(THEM, wire) in node.begun("s1")

    node = Node()
    assert Found(Address("10.0.0.2", 7400)) in node.begun("s1")
    assert not node.peering.is_up("b")
    wire, effects = node.dialled()
    assert effects == [Dialled(wire, "b"), Send(wire, Begin(0)), Up(THEM, wire)]


def test_hello_alone_is_no_link() -> None:
    node = Node()
    node.dialled()
    effects = node.peering.hello("s1", THEM, 0.0)
    assert effects == [Reply("s1", Welcome(ME, 0))]
    assert node.peering.batch("s1", batch(0), 0.0) == [Reply("s1", ResetLink(Reset.UNKNOWN_LINK))]
    assert not node.peering.is_up("b")


def test_hello_on_a_second_address_disturbs_no_session() -> None:
    node = Node()
    node.up()
    assert node.peering.hello("alias", THEM, 1.0) == [Reply("alias", Welcome(ME, 0))]
    assert node.peering.batch("s1", batch(0), 1.0) == [Deliver("b", batch(0))]


def test_second_connection_to_a_connected_node_rests() -> None:
    node = Node()
    node.up()
    alias, effects = node.dialled()
    assert effects == [Dialled(alias, None), Close(alias)]
    assert node.peering.is_up("b")


def test_second_welcome_on_a_link_changes_nothing() -> None:
    node = Node()
    wire, _ = node.dialled()
    assert node.peering.answered(wire, Welcome(THEM, 0), 0.0) == []
    assert node.peering.answered(wire, Welcome(SUCCESSOR, 7), 0.0) == []
    assert node.counters.get(Count.REPEATED) == 2
    assert Up(THEM, wire) in node.begun("s1")


def test_connection_to_ourselves_rests() -> None:
    node = Node()
    wire, effects = node.dialled(ME)
    assert effects == [Dialled(wire, None), Close(wire)]
    assert node.peering.hello("s1", ME, 0.0) == [Reply("s1", Welcome(ME, 0))]
    assert node.peering.known() == []


def test_wildcard_address_is_completed_with_where_the_hello_came_from() -> None:
    node = Node()
    effects = node.peering.hello("s1", replace(THEM, address="tcp://*:7400"), 0.0, "fdaa::3")
    assert Found(Address("fdaa::3", 7400)) in effects


# --- sessions ---


def test_messages_before_our_own_link_stands_are_held_and_follow_the_up() -> None:
    node = Node()
    node.begun("s1")
    assert node.peering.batch("s1", batch(0, 2), 0.0) == []
    assert node.peering.batch("s1", batch(2), 0.0) == []
    wire, effects = node.dialled()
    assert effects[2:] == [Up(THEM, wire), Deliver("b", batch(0, 2)), Deliver("b", batch(2))]


def test_too_much_before_our_own_link_stands_ends_the_session() -> None:
    node = Node()
    node.begun("s1")
    for number in range(HELD_MAX_FRAMES):
        assert node.peering.batch("s1", batch(number), 0.0) == []
    assert node.peering.batch("s1", batch(HELD_MAX_FRAMES), 0.0) == [Reply("s1", ResetLink(Reset.OVERRUN))]
    assert node.counters.get(Count.HELD_FULL) == 1


@pytest.mark.parametrize("kind", ["batch", "heartbeat"])
def test_missing_sequence_number_is_counted_and_ends_the_session(kind: str) -> None:
    node = Node()
    wire = node.up()
    node.peering.batch("s1", batch(0, 3), 0.0)
    effects = (
        node.peering.batch("s1", batch(5), 0.0) if kind == "batch" else node.peering.heartbeat("s1", Heartbeat(5), 0.0)
    )
    assert effects == [Reply("s1", ResetLink(Reset.GAP)), Down(THEM, DownReason.RESET), Close(wire)]
    assert node.counters.get(Count.GAP) == 2
    assert node.peering.batch("s1", batch(3), 0.0) == [Reply("s1", ResetLink(Reset.UNKNOWN_LINK))]


def test_repeated_sequence_number_is_counted_and_delivered_once() -> None:
    node = Node()
    node.up()
    node.peering.batch("s1", batch(0, 3), 0.0)
    assert node.peering.batch("s1", batch(0, 3), 0.0) == []
    assert node.counters.get(Count.REPEATED) == 1
    assert node.peering.batch("s1", batch(3), 0.0) == [Deliver("b", batch(3))]


def test_lost_link_ends_the_session_and_the_next_has_a_higher_number() -> None:
    node = Node()
    wire = node.up()
    assert node.peering.lost(wire) == [Down(THEM, DownReason.DISCONNECTED)]
    assert node.peering.batch("s1", batch(0), 0.0) == [Reply("s1", ResetLink(Reset.UNKNOWN_LINK))]
    _, effects = node.dialled()
    assert isinstance(effects[1], Send)
    assert effects[1].frame == Begin(1)


def test_lost_link_counts_even_before_the_peer_was_up() -> None:
    """Its link belongs to the same session: kept, it would be paired with a link of the next one."""
    node = Node()
    wire, _ = node.dialled()
    assert node.peering.lost(wire) == []
    node.begun("s1", session=0)
    _, effects = node.dialled()
    assert not any(isinstance(effect, Up) for effect in effects)


def test_link_of_an_earlier_session_that_begins_late_is_refused() -> None:
    node = Node()
    wire = node.up()
    node.peering.hello("late", THEM, 0.0)
    node.peering.lost(wire)
    assert node.peering.begin("late", Begin(0), 0.0) == [Reply("late", ResetLink(Reset.UNKNOWN_LINK))]
    assert node.peering.peer_of("late") is None


def test_link_of_a_later_session_ends_ours_and_takes_its_place() -> None:
    node = Node()
    wire = node.up()
    node.peering.hello("s2", THEM, 0.0)
    assert node.peering.begin("s2", Begin(5), 0.0) == [
        Down(THEM, DownReason.RESET),
        Close(wire),
        Found(Address("10.0.0.2", 7400)),
    ]
    second, effects = node.dialled(session=5)
    assert effects == [Dialled(second, "b"), Send(second, Begin(5)), Up(THEM, second)]


def test_welcome_tells_who_is_behind() -> None:
    node = Node()
    wire, effects = node.dialled(session=7)
    assert effects == [Dialled(wire, "b"), Send(wire, Begin(7))]
    assert node.peering.hello("s1", THEM, 0.0) == [Reply("s1", Welcome(ME, 7))]


def test_second_link_within_a_session_is_refused() -> None:
    node = Node()
    node.up()
    node.peering.hello("s2", THEM, 0.0)
    assert node.peering.begin("s2", Begin(0), 0.0) == [Reply("s2", ResetLink(Reset.UNKNOWN_LINK))]
    assert node.peering.batch("s1", batch(0), 0.0) == [Deliver("b", batch(0))]


@pytest.mark.parametrize("how", ["goodbye", "unreachable", "reset"])
def test_session_ends_with_its_reason(how: str) -> None:
    node = Node()
    wire = node.up()
    match how:
        case "goodbye":
            effects, reason = node.peering.goodbye("s1"), DownReason.LEFT
        case "unreachable":
            effects, reason = node.peering.unreachable("b"), DownReason.UNREACHABLE
        case _:
            effects = node.peering.answered(wire, ResetLink(Reset.GAP), 0.0)
            reason = DownReason.RESET
    assert Down(THEM, reason) in effects
    assert Close(wire) in effects
    assert node.peering.up() == []
    assert node.peering.known() == [(THEM, True)]


def test_stop_says_goodbye_to_everybody() -> None:
    node = Node()
    wire = node.up()
    assert node.peering.stop() == [Send(wire, Goodbye()), Down(THEM, DownReason.STOPPED), Close(wire)]


# --- names and clusters ---


def test_successor_at_the_same_address_is_let_in_at_once_though_its_predecessor_counts_as_up() -> None:
    node = Node()
    wire = node.up()
    effects = node.peering.hello("s2", SUCCESSOR, 1.0)
    assert effects[:3] == [Down(THEM, DownReason.REPLACED), Close(wire), Reply("s2", Welcome(ME, 0))]
    assert node.peering.batch("s1", batch(0), 1.0) == [Reply("s1", ResetLink(Reset.UNKNOWN_LINK))]


def test_successor_elsewhere_waits_until_its_predecessor_is_found_dead() -> None:
    node = Node()
    node.up()
    elsewhere = replace(SUCCESSOR, address="tcp://10.0.0.9:7400")
    (reply, *_) = node.peering.hello("s2", elsewhere, 1.0)
    assert reply == Reply("s2", Refuse(Refusal.NAME_BUSY, THEM.address))
    node.peering.unreachable("b")
    assert node.peering.hello("s3", elsewhere, 2.0)[0] == Reply("s3", Welcome(ME, 0))


def test_name_is_taken_once_its_holder_shows_a_sign_of_life_under_the_challenge() -> None:
    node = Node()
    node.up()
    elsewhere = replace(SUCCESSOR, address="tcp://10.0.0.9:7400")
    node.peering.hello("s2", elsewhere, 1.0)
    node.peering.heartbeat("s1", Heartbeat(0), 2.0)
    assert node.peering.hello("s3", elsewhere, 3.0)[0] == Reply("s3", Refuse(Refusal.NAME_TAKEN, THEM.address))
    # Another challenger is judged by what is seen from now on.
    third = replace(elsewhere, incarnation="b3")
    assert node.peering.hello("s4", third, 4.0)[0] == Reply("s4", Refuse(Refusal.NAME_BUSY, THEM.address))


@pytest.mark.parametrize(("started_at_ms", "yields"), [(500, True), (2_000, False)])
def test_of_two_nodes_with_one_name_the_younger_yields(started_at_ms: int, yields: bool) -> None:
    node = Node()
    namesake = replace(THEM, node="a", started_at_ms=started_at_ms)
    effects = node.peering.hello("s1", namesake, 0.0)
    assert Conflict(THEM.address, ours_to_yield=yields) in effects
    assert node.peering.known() == []
    # And the one who asked learns it from the answer.
    told = Node().peering.answered(Wire(), Refuse(Refusal.NAME_TAKEN, "tcp://10.0.0.9:1"), 0.0)
    assert Conflict("tcp://10.0.0.9:1", ours_to_yield=True) in told


def test_other_cluster_and_other_protocol_are_refused_and_not_remembered() -> None:
    node = Node()
    strangers = [
        (replace(THEM, cluster="d"), Refusal.OTHER_CLUSTER, Count.OTHER_CLUSTER),
        (replace(THEM, protocol_min=8, protocol_max=9), Refusal.PROTOCOL, Count.OTHER_PROTOCOL),
    ]
    for hello, code, cause in strangers:
        (reply, *_) = node.peering.hello("s1", hello, 0.0)
        assert isinstance(reply, Reply)
        assert isinstance(reply.frame, Refuse)
        assert reply.frame.code is code
        assert node.counters.get(cause) == 1
    assert node.peering.known() == []


def test_protocol_ranges_that_overlap_are_let_in() -> None:
    effects = Node().peering.hello("s1", replace(THEM, protocol_min=1, protocol_max=9), 0.0)
    assert effects[0] == Reply("s1", Welcome(ME, 0))
