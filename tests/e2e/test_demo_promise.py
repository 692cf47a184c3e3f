"""The demo looks closely: what convergent replication must not do does not pass unseen, and the nodes are real."""

import contextlib
import io
import sqlite3
from pathlib import Path

import pytest
from rich.console import Console

from app.demo.plan import Act, Options, Plan
from app.demo.run import PROMISE_BROKEN, run_demo
from app.demo.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Meddler(Terminal):
    """An audience that counts views of its own in a node's file, which nobody was answered."""

    def __init__(self, console: Console, folder: Path, page: str) -> None:
        super().__init__(console)
        self._folder = folder
        self._page = page

    def act_begins(self, act: Act) -> None:
        super().act_begins(act)
        if act is Act.GENTLE:
            (database,) = self._folder.glob("*/convergent/alpha/litecast.db")
            with contextlib.closing(sqlite3.connect(database, autocommit=True, timeout=10)) as connection:
                connection.execute("INSERT INTO page_counts (page, count) VALUES (?, 7)", (self._page,))


async def test_a_convergent_act_that_does_not_end_exact_is_shown_as_it_was_and_gives_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.demo.acts.CONVERGED_WITHIN_S", 2.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan = Plan(Options(nodes=2, clicks=5, seed=1))
    said = io.StringIO()
    audience = Meddler(Console(file=said, width=80), tmp_path, plan.page(Act.GENTLE))
    assert await run_demo(plan, audience) == PROMISE_BROKEN
    assert "the promise was broken in act 2: 7 too many" in " ".join(said.getvalue().split())
    assert list(tmp_path.iterdir()) == []
