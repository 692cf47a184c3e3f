"""What happened between two snapshots of the counters."""

from app.demo.measures import Damage, NodeCounters, casts_received, damage


def node(incarnation: str = "one", **counters: int) -> NodeCounters:
    return NodeCounters(incarnation=incarnation, counters=counters)


def test_damage_is_what_was_added_over_all_nodes() -> None:
    before = {"alpha": node(actor_crashes=1, dropped_mailbox_lost=5), "beta": node()}
    after = {"alpha": node(actor_crashes=2, dropped_mailbox_lost=9), "beta": node(actor_crashes=1, dropped_no_peer=2)}
    assert damage(before, after) == Damage(crashes=2, dropped=6)


def test_a_node_that_was_started_again_counts_from_nothing() -> None:
    before = {"alpha": node("one", dropped_mailbox_lost=50)}
    assert damage(before, {"alpha": node("two", dropped_mailbox_lost=3)}) == Damage(dropped=3)


def test_what_convergent_replication_did_is_counted_by_run_as_well() -> None:
    one = NodeCounters(incarnation="one", counters={}, replication={"asks": 5, "collisions": 1})
    later = NodeCounters(incarnation="one", counters={}, replication={"asks": 7, "collisions": 1})
    again = NodeCounters(incarnation="two", counters={}, replication={"asks": 3, "collisions": 2})
    assert damage({"alpha": one, "beta": one}, {"alpha": later, "beta": again}) == Damage(asks=5, collisions=2)


def test_a_node_that_does_not_answer_any_more_tells_nothing() -> None:
    assert damage({"alpha": node(actor_crashes=4)}, {}) == Damage()


def test_a_gap_is_dropped_and_a_late_answer_is_not() -> None:
    after = {"alpha": node(gap_messages=2, dropped_late_reply=7, dropped_repeated=1, casts_sent=9)}
    assert damage({}, after) == Damage(dropped=2)


def test_casts_are_received_by_all_nodes_together() -> None:
    assert casts_received({"alpha": node(casts_received=2), "beta": node(casts_received=3), "gamma": node()}) == 5
