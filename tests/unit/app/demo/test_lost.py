"""What a loss of all disks took, from numbers."""

from dataclasses import replace

import pytest

from app.demo.disaster_terminal import said
from app.demo.lost import Loss, PageLoss

PAGE = PageLoss(
    node="alpha",
    answered_s=[1.0, 2.0, 3.0, 4.0, 5.0],
    unknown=1,
    safe=2,
    killed_s=5.5,
    counts={"alpha": 3, "beta": 3},
)
LOSS = Loss(backup="file:///bucket", pages=[PAGE, replace(PAGE, node="beta", safe=4)], back_s=6.0, origins={})


def loss(*pages: PageLoss) -> Loss:
    return replace(LOSS, pages=pages)


def test_what_was_answered_and_is_not_there_is_lost_from_the_first_such_view_on() -> None:
    assert (PAGE.answered, PAGE.there, PAGE.lost, PAGE.lost_s, PAGE.problem) == (5, 3, 2, 1.5, "")
    assert said(loss(PAGE))[:2] == [
        "All 2 views that were reported as safe are there, on every node, and no more than came.",
        "2 views of the last 1.5 s are lost: they were not uploaded yet.",
    ]


@pytest.mark.parametrize("there", [5, 6])
def test_a_view_that_nobody_was_answered_may_be_there(there: int) -> None:
    page = replace(PAGE, counts={"alpha": there, "beta": there})
    assert (page.lost, page.lost_s, page.problem) == (0, 0.0, "")
    assert "Nothing was lost" in said(loss(page))[1]


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({"alpha": 1, "beta": 1}, "1 views of alpha that were reported as safe are lost"),
        ({"alpha": 3, "beta": 4}, "the nodes differ in the views of alpha: 3, 4"),
        ({"alpha": 7, "beta": 7}, "2 more views of alpha are counted than were answered"),
    ],
)
def test_a_promise_that_was_broken_is_said(counts: dict[str, int], problem: str) -> None:
    found = loss(PAGE, replace(PAGE, counts=counts))
    assert found.problems == [problem]
    assert found.as_json()["problems"] == [problem]
    (line,) = said(found)
    assert line.startswith(problem)
    assert "report it" in line
