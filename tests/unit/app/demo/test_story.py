"""The sentences follow the numbers."""

import dataclasses

import pytest

from app.config import Mode
from app.demo.plan import Act
from app.demo.results import ActResult
from app.demo.story import closing, count_of, outcome, sentences, traffic


def act(number: Act, expected: int, *counts: int, **more: object) -> ActResult:
    names = ("alpha", "beta", "gamma")
    result = ActResult(
        act=number, mode=Mode.NAIVE, page="home", expected=expected, counts=dict(zip(names, counts, strict=False))
    )
    return dataclasses.replace(result, **more)  # type: ignore[arg-type]


def convergent(number: Act, expected: int, *counts: int, **more: object) -> ActResult:
    return act(number, expected, *counts, mode=Mode.CONVERGENT, **more)


def told(result: ActResult) -> str:
    return " ".join(sentences(result))


@pytest.mark.parametrize("mode", [Mode.NAIVE, Mode.CONVERGENT])
@pytest.mark.parametrize("number", Act)
def test_a_run_where_all_went_well_does_not_claim_a_loss(number: Act, mode: Mode) -> None:
    result = act(number, 5, 5, 5, 5, mode=mode, subject=("alpha", "beta"))
    assert " apart" not in told(result)
    assert "has lost" not in told(result)
    assert "fewer" not in told(result)
    assert "crashed" not in told(result)
    assert "must not happen" not in told(result)
    assert outcome(result) == "0 lost"


@pytest.mark.parametrize("number", Act)
def test_what_runs_have_in_common_is_told_once_and_what_differs_with_its_mode(number: Act) -> None:
    one = act(number, 5, 5, 5, 5, subject=("alpha", "beta"))
    other = convergent(number, 5, 5, 5, 5, subject=("alpha", "beta"))
    assert "mode" not in traffic([one, other])
    if number is not Act.COLLISION:
        less = dataclasses.replace(other, expected=4)
        assert "5 views (mode naive) and 4 views (mode convergent)" in traffic([one, less])


def test_concurrent_traffic_that_loses_views_says_how_many() -> None:
    text = told(act(Act.CONCURRENT, 300, 120, 130, 124))
    assert "10 apart" in text
    assert "170 of 300 views (57%)" in text


def test_concurrent_traffic_that_loses_views_alike_everywhere_does_not_say_that_nodes_differ() -> None:
    result = act(Act.CONCURRENT, 300, 120, 120, 120)
    assert "end equal, but" in told(result)
    assert outcome(result) == "180 lost"


def test_gentle_traffic_that_went_wrong_is_not_told_as_the_claim() -> None:
    result = act(Act.GENTLE, 30, 30, 29, 30)
    assert "differ by 1" in told(result)
    assert outcome(result) == "0 lost, 1 apart"


def test_who_was_away_is_named_with_what_it_misses() -> None:
    text = told(act(Act.ABSENT, 40, 40, 10, 40, subject=("beta",)))
    assert "beta came back and says 10: 30 fewer" in text


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


def test_a_collision_that_did_not_happen_is_told_with_its_attempts() -> None:
    result = act(Act.COLLISION, 2, 2, 2, 2, subject=("alpha", "beta"), attempts=5)
    assert "5 times over" in traffic([result])
    assert "No insert collided" in told(result)


def test_views_of_unknown_outcome_are_told_and_not_expected() -> None:
    result = act(Act.ALONE, 10, 6, 3, 2, refused=1, unknown=2)
    assert "1 view was refused" in told(result)
    assert "up to 2 more" in told(result)


def test_what_went_otherwise_than_planned_is_told_last() -> None:
    assert sentences(act(Act.GENTLE, 1, 1, 1, 1, notes=("beta stopped by itself: why.",)))[-1].startswith("beta")


def test_a_count_is_shown_with_what_it_misses() -> None:
    result = act(Act.CONCURRENT, 300, 288, 300, 301)
    assert [count_of(result, node) for node in result.counts] == ["288 (−12)", "300", "301 (+1)"]


def test_the_end_counts_what_naive_replication_lost_and_not_what_nobody_replicated() -> None:
    alone = act(Act.ALONE, 300, 150, 100, 50, mode=Mode.NONE)
    (line,) = closing([alone, act(Act.GENTLE, 30, 30, 30, 30), act(Act.CONCURRENT, 300, 120, 130, 124)])
    assert "170 of 330 views were lost, and 1 of 2 acts" in line
    assert "answered with 200" in line


def test_the_end_does_not_say_that_all_was_answered_if_it_was_not() -> None:
    (line,) = closing([act(Act.CONCURRENT, 300, 120, 130, 124, unknown=1)])
    assert "answered" not in line


def test_the_end_of_a_run_without_loss_says_so() -> None:
    assert "lost nothing" in closing([act(Act.CONCURRENT, 3, 3, 3, 3)])[0]


def test_the_end_says_how_soon_convergent_nodes_were_equal_at_the_latest() -> None:
    runs = [
        convergent(Act.GENTLE, 30, 30, 30, 30, converged_s=0.004),
        convergent(Act.ABSENT, 40, 40, 40, 40, subject=("beta",), converged_s=1.25),
    ]
    (line,) = closing(runs)
    assert "0 of 70 views were lost" in line
    assert "at most 1.2 s after" in line


@pytest.mark.parametrize(
    ("counts", "more", "says"),
    [
        ((290, 290, 290), {}, "10 of 300 views (3%) were lost on every node"),
        ((300, 299, 300), {}, "end 1 apart"),
        ((301, 301, 301), {}, "1 view more than were answered"),
        ((300, 300, 300), {"pages_inexact": 2}, "2 other pages"),
    ],
)
def test_a_convergent_run_that_is_not_exact_is_a_broken_promise_and_named_so(
    counts: tuple[int, ...], more: dict[str, object], says: str
) -> None:
    result = convergent(Act.CONCURRENT, 300, *counts, **more)
    assert "must not happen" in told(result)
    assert says in told(result)
    (line,) = closing([result])
    assert f"{outcome(result)} in act 3" in line
    assert "0 of 300 views were lost" not in line


def test_what_a_convergent_cluster_did_is_told_only_if_it_was_measured() -> None:
    absent = convergent(Act.ABSENT, 40, 40, 40, 40, subject=("beta",))
    assert "asked" not in told(absent)
    assert "beta asked for what it had missed" in told(dataclasses.replace(absent, asks=2))
    collision = convergent(Act.COLLISION, 2, 2, 2, 2, subject=("alpha", "beta"))
    assert "No insert met another" in told(collision)
    assert "Two inserts met" in told(dataclasses.replace(collision, collisions=2))


def test_an_actor_that_crashed_in_a_convergent_run_is_told() -> None:
    assert "2 actors crashed" in told(convergent(Act.COLLISION, 2, 2, 2, 2, subject=("alpha", "beta"), crashes=2))
