"""The programs that are measured do what they say: casts arrive and are counted, calls are answered, rows are there."""

import contextlib
from itertools import product

import pytest

from benchmarks.child import Child, ChildFailed, pair

SECRET = "the secret of the tests, long enough to be one"


@pytest.mark.parametrize("settings", [{}, {"secret": SECRET}])
def test_litecast_pair_counts_casts_and_answers_calls(settings: dict[str, str]) -> None:
    with pair("litecast_pair", **settings) as near:
        for burst in (1, 1_000):
            assert near.ask(casts=2_000, burst=burst)["casts_per_s"] > 0
        figures = near.ask(calls=20)
    assert 0 < figures["p50_us"] <= figures["p99_us"]


@pytest.mark.parametrize(
    ("program", "settings"),
    [
        ("pyzmq_pair", {}),
        ("pyzmq_pair", {"secret": SECRET}),
        ("pyzmq_asyncio_pair", {}),
        ("pyzmq_asyncio_pair", {"each": True}),
        ("streams_pair", {}),
    ],
)
def test_bare_pair_counts_casts_and_answers_calls(program: str, settings: dict[str, object]) -> None:
    with pair(program, **settings) as near:
        for batch in (1, 100):
            assert near.ask(casts=2_000, batch=batch)["casts_per_s"] > 0
        figures = near.ask(calls=20)
    assert 0 < figures["p50_us"] <= figures["p99_us"]


def test_repo_and_sqlite_do_the_same_work() -> None:
    with Child("repo_and_sqlite") as child:
        for who, work, synchronous in product(("repo", "bare"), ("read", "write", "view"), ("FULL", "NORMAL")):
            figures = child.ask(who=who, work=work, synchronous=synchronous, count=5)
            assert 0 < figures["p50_us"] <= figures["p99_us"]


def test_child_that_fails_is_told_and_has_ended() -> None:
    with Child("repo_and_sqlite") as child, contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(ChildFailed))
        child.ask(who="nobody", work="read", synchronous="FULL", count=1)
