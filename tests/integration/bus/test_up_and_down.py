"""`nodeup` before any message of an incarnation, `nodedown` after its last and before the next `nodeup`."""

import asyncio
import itertools
import random
from dataclasses import replace

import pytest

from cluster.address import Address
from cluster.counters import Count
from cluster.membership import PeerState
from tests.integration.bus.test_order_and_loss import assert_runs, sessions
from tests.support.clusters import DIALS, Harness, Listed, ZeroMqHarness
from tests.support.eventually import eventually, turns


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_flapping_link_never_mixes_sessions(harness: Harness, seed: int) -> None:
    rng = random.Random(seed)
    a, b, _ = await harness.trio()
    numbers = itertools.count()
    for _ in range(15):
        fault = rng.choice([harness.cut, harness.cut, harness.hold])
        for _ in range(rng.randrange(5)):
            for _ in range(rng.randrange(30)):
                a.node.cast("b", "recorder", next(numbers))
            await turns(rng.randrange(20))
        fault("a", "b")
        for _ in range(rng.randrange(60)):
            a.node.cast("b", "recorder", next(numbers))
            await turns(rng.randrange(3))
        harness.heal("a", "b")
        if rng.random() < 0.6:
            await harness.settled()
    last = next(numbers)
    a.node.cast("b", "recorder", last)

    def got_through() -> bool:
        a.node.cast("b", "recorder", next(numbers))  # one alone may meet a break that was not noticed yet
        return any(number >= last for number in b.casts("a"))  # type: ignore[operator]

    await eventually(got_through)
    assert_runs(sessions(b, "a"))
    sessions(a, "b")
    assert a.news("c") == b.news("c") == ["up"]  # nobody else was disturbed


async def test_peers_is_a_snapshot_of_the_others_while_nodes_come_and_go(harness: Harness) -> None:
    a = await harness.start("a", region="ams")
    assert a.node.peers() == ()
    b = await harness.start("b", region="lhr")
    await harness.settled()
    before = a.node.peers()
    assert [(peer.name, peer.region, peer.incarnation) for peer in before] == [("b", "lhr", b.node.incarnation)]
    assert before[0].address == str(b.node.address)
    await harness.start("c")
    await harness.settled()
    assert [peer.name for peer in a.node.peers()] == ["b", "c"]
    await harness.kill("b")
    await eventually(lambda: [peer.name for peer in a.node.peers()] == ["c"])
    assert [peer.name for peer in before] == ["b"]
    assert "a" not in {member.name for member in a.node.members()}


async def test_members_say_what_is_known_of_each(harness: Harness) -> None:
    a = await harness.start("a", dials=[Address("127.0.0.1", 1)])
    await eventually(a.node.members)
    assert [(m.name, m.region, m.address, m.state) for m in a.node.members()] == [
        (None, None, "tcp://127.0.0.1:1", PeerState.CONNECTING)
    ]
    await harness.start("b")
    await harness.settled()
    assert a.state_of("b") is PeerState.UP
    await harness.kill("b")
    await eventually(lambda: a.state_of("b") is PeerState.DOWN)


async def test_node_that_only_one_side_was_told_of_is_up_on_both(harness: Harness) -> None:
    b = await harness.start("b", dials=[])
    a = await harness.start("a", dials=["b"])
    await harness.settled()
    a.node.cast("b", "recorder", "there")
    b.node.cast("a", "recorder", "back")
    await eventually(lambda: b.casts("a") == ["there"] and a.casts("b") == ["back"])


async def test_node_that_nobody_was_told_of_is_found_when_it_dials_one_of_a_pair(harness: Harness) -> None:
    await harness.pair()
    await harness.start("c", dials=["a", "b"])
    await harness.settled()


async def test_stop_says_goodbye_and_is_noticed_at_once(harness: Harness) -> None:
    a, b = await harness.pair()
    a.node.cast("b", "recorder", "last words")
    await harness.stop("a")
    await eventually(lambda: b.news("a") == ["up", "down"], within_s=2)
    assert b.casts() == ["last words"]
    assert b.state_of("a") is PeerState.DOWN


async def test_silent_link_is_suspect_then_down_then_up_again(harness: Harness) -> None:
    a, b = await harness.pair()
    states: list[PeerState | None] = []

    def watched(until: PeerState) -> bool:
        state = a.state_of("b")
        if not states or states[-1] is not state:
            states.append(state)
        return state is until

    await eventually(lambda: watched(PeerState.UP))
    harness.hold("a", "b")
    await eventually(lambda: watched(PeerState.DOWN))
    assert states == [PeerState.UP, PeerState.SUSPECT, PeerState.DOWN]
    await eventually(lambda: b.news("a") == ["up", "down"])
    harness.heal("a", "b")
    await eventually(lambda: a.news("b") == ["up", "down", "up"])


async def test_suspect_peer_is_alive_again_when_it_answers_in_time(harness: Harness) -> None:
    a, b = await harness.pair()
    harness.hold("a", "b")
    await eventually(lambda: a.state_of("b") is PeerState.SUSPECT)
    harness.heal("a", "b")
    await eventually(lambda: a.state_of("b") is PeerState.UP)
    assert a.news("b") == b.news("a") == ["up"]


async def test_peer_that_others_vouch_for_is_down_later_but_is_down(harness: Harness) -> None:
    a, _, c = await harness.trio()
    loop = asyncio.get_running_loop()
    harness.hold("a", "b")
    begun_s = loop.time()
    await eventually(lambda: "down" in a.news("b"))
    took_s = loop.time() - begun_s
    # One tick at most is lost at each end; without c's word it would be down_after_s.
    assert took_s > harness.detector.down_after_s + 5 * harness.detector.tick_interval_s
    assert took_s < 3 * harness.detector.suspicion_max_s
    assert c.news("a") == c.news("b") == ["up"]
    harness.heal("a", "b")
    await harness.settled()


async def test_node_under_two_addresses_is_one_node(sockets: ZeroMqHarness) -> None:
    sockets.dialing = replace(DIALS, rest_s=0.05)  # the alias is looked at again and again
    b = await sockets.start("b", dials=[])
    a = await sockets.start("a", dials=["b", Address("localhost", b.node.address.port)])
    await sockets.settled()
    proxies = [sockets.proxy("a", "b"), sockets.proxy("a", Address("localhost", b.node.address.port))]

    def looked_at_again() -> bool:
        dialled = sum(proxy.accepted for proxy in proxies)  # whichever of the two is the alias
        a.node.cast("b", "recorder", dialled)
        return dialled > 6

    await eventually(looked_at_again)
    assert [peer.name for peer in a.node.peers()] == ["b"]
    assert a.news("b") == b.news("a") == ["up"]
    a.node.cast("b", "recorder", "last")
    await eventually(lambda: b.casts()[-1] == "last")
    assert len(b.casts()) == a.count(Count.CASTS_SENT)


async def test_node_that_dials_itself_is_not_its_own_peer(harness: Harness) -> None:
    a = await harness.start("a", dials=[])
    discovery = a.node._discovery
    assert isinstance(discovery, Listed)
    discovery.add(a.node.address)
    await harness.start("b")
    await harness.settled()
    assert [member.name for member in a.node.members()] == ["b"]
    assert a.count(Count.DIAL_FAILED) == 0
    assert a.count(Count.NAME_TAKEN) == 0
