"""How the cost of a cluster grows with its nodes: measured in a small one."""

from dataclasses import replace

from replication.simulation.curve import COMMITS_PER_S, LATENCY_S, measure


def test_a_small_cluster_joins_is_quiet_while_nobody_writes_and_ends_equal() -> None:
    point = measure(3)
    assert point.joined_s < 1
    assert 0 < point.idle_frames < point.writing_frames
    assert point.writing_frames > COMMITS_PER_S * 2 / 3  # each commit goes to two others, and each node makes a third
    assert LATENCY_S <= point.equal_s < 1


def test_the_same_numbers_come_out_again() -> None:
    one, other = measure(2), measure(2)
    assert replace(one, took_s=0.0) == replace(other, took_s=0.0)
