"""What may be concluded from the numbers of a run."""

import dataclasses

import pytest

from app.config import Mode
from app.demo.plan import Act
from app.demo.results import ActResult, broken_promises, by_act, is_exact
from app.demo.wording import duration, listed

KEYS = [
    "act",
    "name",
    "mode",
    "page",
    "expected",
    "counts",
    "lost",
    "drift",
    "crashes",
    "dropped",
    "converged_s",
]
RUN = ActResult(
    act=Act.CONCURRENT,
    mode=Mode.CONVERGENT,
    page="home",
    expected=300,
    counts={"alpha": 300, "beta": 300, "gamma": 300},
    converged_s=0.0123456,
)


def test_lost_is_what_even_the_largest_count_lacks_and_drift_is_how_far_nodes_are_apart() -> None:
    result = dataclasses.replace(RUN, counts={"alpha": 120, "beta": 130, "gamma": 124})
    assert (result.lost, result.drift) == (170, 10)


def test_json_has_these_keys_and_no_others() -> None:
    shown = dataclasses.replace(RUN, subject=("beta",), unknown=2, notes=("x",), pages_inexact=1).as_json()
    assert list(shown) == KEYS
    assert shown["act"] == 3
    assert shown["mode"] == "convergent"
    assert shown["counts"] == {"alpha": 300, "beta": 300, "gamma": 300}
    assert shown["converged_s"] == 0.0123
    assert dataclasses.replace(RUN, converged_s=None).as_json()["converged_s"] is None


@pytest.mark.parametrize(
    ("counts", "unknown", "exact"),
    [
        ((5, 5, 5), 0, True),
        ((5, 5, 4), 0, False),
        ((4, 4, 4), 0, False),  # equal, and wrong: one node's share is missing
        ((6, 6, 6), 0, False),
        ((6, 6, 6), 1, True),  # a view whose answer was lost may have been counted
        ((6, 6, 5), 1, False),  # but on all nodes or on none
        ((4, 4, 4), 1, False),
    ],
)
def test_counts_are_exact_if_they_are_equal_and_what_was_answered(
    counts: tuple[int, ...], unknown: int, exact: bool
) -> None:
    assert is_exact(dict(zip(("alpha", "beta", "gamma"), counts, strict=True)), 5, unknown) is exact


def test_a_run_is_exact_only_if_all_its_pages_are() -> None:
    assert RUN.exact
    assert not dataclasses.replace(RUN, pages_inexact=1).exact


def test_only_convergent_runs_promise_anything() -> None:
    short = dataclasses.replace(RUN, counts={"alpha": 299, "beta": 299, "gamma": 299})
    naive = dataclasses.replace(short, mode=Mode.NAIVE)
    assert broken_promises([RUN, naive]) == []
    assert broken_promises([RUN, naive, short]) == [short]
    assert (RUN.harmed, naive.harmed, short.harmed) == (False, True, True)


def test_the_runs_of_an_act_are_kept_together() -> None:
    alone = dataclasses.replace(RUN, act=Act.ALONE, mode=Mode.NONE)
    naive = dataclasses.replace(RUN, mode=Mode.NAIVE)
    assert by_act([alone, naive, RUN]) == [(alone,), (naive, RUN)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "never"), (0.0, "< 1 ms"), (0.0123, "12 ms"), (0.9996, "1.0 s"), (1.25, "1.2 s"), (20, "20.0 s")],
)
def test_durations_are_short(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_lists_read_as_people_say_them() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
