"""What the seed decides."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.demo.plan import BEFORE_THE_KILL_MAX, CLICKS_MAX, GENTLE_CLICKS_MAX, Act, Options, Plan, shares

options = st.builds(Options, nodes=st.integers(2, 9), clicks=st.integers(1, 400), seed=st.integers(0, 2**32 - 1))


@given(options)
def test_the_same_seed_gives_the_same_plan(chosen: Options) -> None:
    one, other = Plan(chosen), Plan(chosen)
    assert one.spread() == other.spread()
    assert one.gentle() == other.gentle()
    assert one.waves() == other.waves()
    assert [one.page(act) for act in Act] == [other.page(act) for act in Act]
    assert (one.victim(), one.while_away(), one.colliding()) == (other.victim(), other.while_away(), other.colliding())


def test_another_seed_gives_other_pages() -> None:
    assert Plan(Options(seed=1)).page(Act.ALONE) != Plan(Options(seed=2)).page(Act.ALONE)


@given(options)
def test_each_click_is_planned_once(chosen: Options) -> None:
    plan = Plan(chosen)
    assert len(plan.spread()) == chosen.clicks
    assert 1 + sum(len(wave) for wave in plan.waves()) == chosen.clicks
    assert len(plan.gentle()) == len(plan.while_away()) == min(chosen.clicks, GENTLE_CLICKS_MAX)
    assert len(plan.before_the_kill()) == min(chosen.clicks, BEFORE_THE_KILL_MAX)


@given(options)
def test_shares_of_the_nodes_differ(chosen: Options) -> None:
    spread = Plan(chosen).spread()
    counts = {spread.count(name) for name in Plan(chosen).names}
    assert len(counts) > 1


@given(options)
def test_the_last_wave_comes_to_one_node_more_than_to_another(chosen: Options) -> None:
    plan = Plan(chosen)
    if waves := plan.waves():
        assert len({waves[-1].count(name) for name in plan.names}) > 1


@given(options)
def test_gentle_views_never_hit_the_same_node_twice_in_a_row(chosen: Options) -> None:
    gentle = Plan(chosen).gentle()
    assert all(one != next_one for one, next_one in pairwise(gentle))


@given(options)
def test_nobody_asks_the_victim_while_it_is_away(chosen: Options) -> None:
    plan = Plan(chosen)
    assert plan.victim() not in plan.while_away()


@given(options)
def test_two_different_nodes_collide(chosen: Options) -> None:
    first, second = Plan(chosen).colliding()
    assert first != second


@given(options)
def test_no_page_is_used_by_two_acts(chosen: Options) -> None:
    plan = Plan(chosen)
    pages = [plan.page(act) for act in Act if act is not Act.COLLISION]
    pages += [plan.sign_of_life(name) for name in plan.names] + [plan.bystander(name) for name in plan.names]
    pages += [plan.collision_page(attempt) for attempt in range(5)]
    assert len(set(pages)) == len(pages)


@pytest.mark.parametrize(("total", "parts"), [(1, 3), (2, 3), (3, 3), (300, 3), (7, 9), (CLICKS_MAX, 9)])
def test_shares_add_up_and_fall(total: int, parts: int) -> None:
    split = shares(total, parts)
    assert sum(split) == total
    assert split == sorted(split, reverse=True)
    assert split[0] > split[-1]
