"""Whom to ask: nobody for what is on its way, and at once for what is missing."""

from replication.convergent.exchange import GRACE_S, Exchange
from replication.convergent.inbox import Lacking
from replication.convergent.messages import Heads
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp, stamp_at

OWN, A, B = (Site(f"{number:032x}") for number in (1, 2, 3))
BASELINE = Site("g" + "5" * 31)
FAR_MS = 10**9


def heads(site: Site, **stamps: int) -> Heads:
    names = {"own": OWN, "a": A, "b": B, "baseline": BASELINE}
    vector = {names[name]: Head(stamp=Stamp(stamp), digest=bytes(16)) for name, stamp in stamps.items()}
    return Heads(site=site, vector=vector, clock_ms=0, ready=True)


def to_ask(
    exchange: Exchange, reach: dict[Site, Stamp] | None = None, *, waiting: tuple[Lacking, ...] = (), now_s: float = 1.0
) -> str | None:
    return exchange.to_ask(reach or {}, waiting, own=OWN, closed=frozenset(), before_ms=FAR_MS, now_s=now_s)


def test_the_first_heads_of_a_peer_tell_what_is_missing() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, b=5))
    assert to_ask(exchange) == "a"


def test_what_a_third_node_wrote_may_be_on_its_way_until_the_peer_speaks_again() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, b=5))
    exchange.heard("a", heads(A, b=6))
    assert to_ask(exchange, {B: Stamp(5)}) is None
    exchange.heard("a", heads(A, b=7))
    assert to_ask(exchange, {B: Stamp(5)}) == "a"


def test_what_the_peer_itself_wrote_came_before_its_heads_or_is_lost() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, a=5))
    exchange.heard("a", heads(A, a=6))
    assert to_ask(exchange, {A: Stamp(5)}) == "a"


def test_a_baseline_is_cast_by_nobody_and_is_asked_for_at_once() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A))
    exchange.heard("a", heads(A, baseline=0))
    assert to_ask(exchange) == "a"


def test_nothing_is_asked_for_that_is_here() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, a=5, b=3))
    assert to_ask(exchange, {A: Stamp(5), B: Stamp(4)}) is None


def test_the_own_site_is_not_asked_for() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, own=5))
    assert to_ask(exchange) is None


def test_what_is_too_far_ahead_is_not_asked_for() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, a=stamp_at(FAR_MS)))
    assert to_ask(exchange) is None


def test_what_will_never_be_merged_is_not_asked_for_again() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, a=5))
    exchange.refuse(A, Stamp(5))
    assert to_ask(exchange) is None


def test_a_peer_that_did_not_help_is_left_alone_for_a_while() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, a=5))
    exchange.pause("a", 3.0)
    assert to_ask(exchange, now_s=2.9) is None
    assert to_ask(exchange, now_s=3.1) == "a"


def test_a_predecessor_is_asked_for_at_once_and_a_dep_after_a_moment() -> None:
    exchange = Exchange()
    exchange.up("a")
    gap = Lacking(peer="a", site=A, stamp=Stamp(3), own_gap=True, since_s=1.0)
    dep = Lacking(peer="a", site=B, stamp=Stamp(3), own_gap=False, since_s=1.0)
    assert to_ask(exchange, waiting=(gap,), now_s=1.0) == "a"
    assert to_ask(exchange, waiting=(dep,), now_s=1.0) is None
    assert to_ask(exchange, waiting=(dep,), now_s=1.0 + GRACE_S) == "a"


def test_a_peer_that_went_down_is_not_asked() -> None:
    exchange = Exchange()
    exchange.heard("a", heads(A, a=5))
    exchange.down("a")
    assert to_ask(exchange) is None


def test_what_keeps_a_changeset_waiting_is_asked_of_others_where_its_sender_is_gone_or_did_not_help() -> None:
    """What waits is of `b`, up to 5, and lacks what `b` wrote up to 3. Others have both, and seem to have no more."""
    exchange = Exchange()
    exchange.heard("b", heads(B, b=5))
    exchange.heard("c", heads(A, a=1, b=5))
    exchange.heard("d", heads(A, b=2))
    gap = Lacking(peer="b", site=B, stamp=Stamp(3), own_gap=True, since_s=1.0)
    reach = {A: Stamp(1), B: Stamp(5)}
    assert to_ask(exchange, reach, waiting=(gap,)) == "b"
    exchange.pause("b", 2.0)
    assert to_ask(exchange, reach, waiting=(gap,)) == "c"
    exchange.down("b")
    assert to_ask(exchange, reach, waiting=(gap,), now_s=3.0) == "c"
    exchange.down("c")
    assert to_ask(exchange, reach, waiting=(gap,), now_s=3.0) is None, "nobody has it"
