"""Whose turn it is."""

from app.devproxy.pool import Pool
from cluster.address import Address

A, B, C = (Address(f"10.0.0.{last}", 8080) for last in (1, 2, 3))


def ready_pool(*addresses: Address) -> Pool:
    pool = Pool(addresses)
    for address in addresses:
        pool.is_ready(address, name=f"node-{address.host[-1]}", region="here")
    return pool


def turns(pool: Pool, count: int) -> str:
    return "".join(chosen.name[-1] if (chosen := pool.choose()) else "-" for _ in range(count))


def test_requests_go_round() -> None:
    assert turns(ready_pool(A, B, C), 7) == "1231231"


def test_node_that_has_not_said_that_it_is_ready_gets_nothing() -> None:
    assert Pool([A, B]).choose() is None


def test_node_that_is_not_ready_is_passed_over_until_it_is() -> None:
    pool = ready_pool(A, B, C)
    pool.is_not_ready(B)
    assert turns(pool, 4) == "1313"
    pool.is_ready(B, name="node-2", region="here")
    assert turns(pool, 3) == "123"


def test_node_that_was_tried_for_this_request_is_not_chosen_again() -> None:
    pool = ready_pool(A, B)
    assert pool.choose(without={A}) == pool.backends[1]
    assert pool.choose(without={A, B}) is None


def test_node_that_joins_gets_its_turn_and_nobody_loses_theirs() -> None:
    pool = ready_pool(A, C)
    assert turns(pool, 1) == "1"
    pool.place([A, B, C])
    pool.is_ready(B, name="node-2", region="here")
    assert turns(pool, 4) == "2312"


def test_turn_passes_on_when_the_last_one_chosen_has_left() -> None:
    pool = ready_pool(A, B, C)
    assert turns(pool, 2) == "12"
    pool.place([A, C])
    assert turns(pool, 3) == "313"


def test_what_is_known_of_nodes_that_stay_is_kept() -> None:
    pool = ready_pool(A, B)
    pool.place([B, C])
    assert [(node.label, node.ready) for node in pool.backends] == [("node-2", True), ("10.0.0.3:8080", False)]


def test_word_of_a_node_that_has_left_is_forgotten() -> None:
    pool = ready_pool(A)
    pool.is_ready(B, name="node-2", region="here")
    pool.is_not_ready(C)
    assert [node.address for node in pool.backends] == [A]


def test_of_those_that_fit_the_nearest_take_turns() -> None:
    pool = ready_pool(A, B, C)
    far = {A: 1, B: 0, C: 0}
    chosen = [pool.choose(distance=lambda one: far[one.address]) for _ in range(4)]
    assert [one.address for one in chosen if one] == [B, C, B, C]
    first = pool.choose(fits=lambda one: one.address != B, distance=lambda one: far[one.address])
    assert first is not None
    assert first.address == C
    assert pool.choose(fits=lambda one: False) is None


def test_requests_go_to_the_program_beside_a_node_where_there_is_one() -> None:
    pool = Pool([A])
    pool.is_ready(A, name="a", region="here", program="http://10.0.0.1:8000")
    (backend,) = pool.backends
    assert (backend.url, backend.node_url) == ("http://10.0.0.1:8000", "http://10.0.0.1:8080")


def test_one_address_is_one_node() -> None:
    assert len(Pool([A, A, Address("10.0.0.1", 8080)]).backends) == 1
