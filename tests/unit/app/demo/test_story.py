"""The sentences follow the numbers."""

import dataclasses

import pytest

from app.demo.plan import Act
from app.demo.story import ActResult, closing, count_of, lesson, sentences

KEYS = ["act", "name", "mode", "page", "expected", "counts", "lost", "drift", "crashes", "dropped"]


def act(number: Act, expected: int, *counts: int, **more: object) -> ActResult:
    names = ("alpha", "beta", "gamma")
    result = ActResult(
        act=number, mode="naive", page="home", expected=expected, counts=dict(zip(names, counts, strict=False))
    )
    return dataclasses.replace(result, **more)  # type: ignore[arg-type]


def told(result: ActResult) -> str:
    return " ".join(sentences(result))


def test_lost_is_what_even_the_largest_count_lacks_and_drift_is_how_far_nodes_are_apart() -> None:
    result = act(Act.CONCURRENT, 300, 120, 130, 124)
    assert (result.lost, result.drift) == (170, 10)


def test_json_has_these_keys_and_no_others() -> None:
    shown = act(Act.ABSENT, 3, 3, 1, 3, subject=("beta",), unknown=2, notes=("x",)).as_json()
    assert list(shown) == KEYS
    assert shown["act"] == 4
    assert shown["counts"] == {"alpha": 3, "beta": 1, "gamma": 3}


@pytest.mark.parametrize("number", Act)
def test_an_act_where_all_went_well_does_not_claim_a_loss(number: Act) -> None:
    result = act(number, 5, 5, 5, 5, subject=("alpha", "beta"))
    assert " apart" not in told(result)
    assert "has lost" not in told(result)
    assert "fewer" not in told(result)
    assert "crashed" not in told(result)
    assert lesson(result) not in {"views lost, nodes differ", "it never learns the rest", "the actor crashed"}


def test_concurrent_traffic_that_loses_views_says_how_many() -> None:
    text = told(act(Act.CONCURRENT, 300, 120, 130, 124))
    assert "10 apart" in text
    assert "170 of 300 views (57%)" in text


def test_concurrent_traffic_that_loses_views_alike_everywhere_does_not_say_that_nodes_differ() -> None:
    result = act(Act.CONCURRENT, 300, 120, 120, 120)
    assert "end equal, but" in told(result)
    assert lesson(result) == "views lost on every node"


def test_gentle_traffic_that_went_wrong_is_not_told_as_the_claim() -> None:
    result = act(Act.GENTLE, 30, 30, 29, 30)
    assert "differ by 1" in told(result)
    assert lesson(result) == "not even this went well"


def test_who_was_away_is_named_with_what_it_misses() -> None:
    text = told(act(Act.ABSENT, 40, 40, 10, 40, subject=("beta",)))
    assert "beta was killed" in text
    assert "It says 10: 30 fewer" in text


def test_who_was_away_and_is_not_behind_is_told_so() -> None:
    assert "not behind" in told(act(Act.ABSENT, 40, 40, 40, 40, subject=("beta",)))


def test_a_collision_tells_crashes_and_casts_that_went_with_the_mailbox() -> None:
    result = act(
        Act.COLLISION, 2, 1, 1, 1, subject=("alpha", "beta"), crashes=3, dropped=44, pages_beside=3, pages_apart=2
    )
    text = told(result)
    assert "3 actors crashed" in text
    assert "44 casts" in text
    assert "2 of 3 other pages differ" in text
    assert "2 views were answered with 200, and the page says 1." in text


def test_a_collision_that_did_not_happen_is_told_with_its_attempts() -> None:
    text = told(act(Act.COLLISION, 2, 2, 2, 2, subject=("alpha", "beta"), attempts=5))
    assert "5 times" in text
    assert "no insert collided" in text


def test_views_of_unknown_outcome_are_told_and_not_expected() -> None:
    result = act(Act.ALONE, 10, 6, 3, 2, refused=1, unknown=2)
    assert "1 view was refused" in told(result)
    assert "up to 2 more" in told(result)


def test_what_went_otherwise_than_planned_is_told_last() -> None:
    assert sentences(act(Act.GENTLE, 1, 1, 1, 1, notes=("beta stopped by itself: why.",)))[-1].startswith("beta")


def test_a_count_is_shown_with_what_it_misses() -> None:
    result = act(Act.CONCURRENT, 300, 288, 300, 301)
    assert [count_of(result, node) for node in result.counts] == ["288 (−12)", "300", "301 (+1)"]


def test_the_end_counts_only_what_naive_replication_lost() -> None:
    alone = dataclasses.replace(act(Act.ALONE, 300, 150, 100, 50), mode="none")
    lines = closing([alone, act(Act.GENTLE, 30, 30, 30, 30), act(Act.CONCURRENT, 300, 120, 130, 124)])
    assert "170 of 330 views were lost, and 1 of 2 acts" in lines[0]
    assert "answered with 200" in lines[1]


def test_the_end_does_not_say_that_all_was_answered_if_it_was_not() -> None:
    assert len(closing([act(Act.CONCURRENT, 300, 120, 130, 124, unknown=1)])) == 1


def test_the_end_of_a_run_without_loss_says_so() -> None:
    assert "lost nothing" in closing([act(Act.CONCURRENT, 3, 3, 3, 3)])[0]
