"""When polling asks, what it passes on, and what it says about failures."""

import asyncio
import logging
from collections.abc import Sequence
from random import Random

import pytest

from cluster.address import Address
from cluster.discovery.polling import Failures, NoNews, poll
from tests.support.candidates import Candidates

LOG = logging.getLogger("test.discovery")
PEER = Address("10.0.0.1", 7400)


class CountedFailures:
    def __init__(self) -> None:
        self.count = 0
        self.failures = Failures(LOG, self._one_more)

    def _one_more(self) -> None:
        self.count += 1


class RecordedRandom(Random):
    """Always the lower end; remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__(0)
        self.bounds: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.bounds.append((a, b))
        return a


class Asked:
    """Answers in this order, and then the last one for ever."""

    def __init__(self, *answers: Sequence[Address] | Exception) -> None:
        self._answers = list(answers)

    async def __call__(self) -> Sequence[Address]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_reason_is_logged_when_new_and_once_a_minute_while_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    counted = CountedFailures()
    with caplog.at_level(logging.INFO):
        for second in range(0, 180, 5):
            counted.failures.failed("node: no such name", float(second))
    assert counted.count == 36
    assert len(caplog.messages) == 3
    assert "node: no such name" in caplog.messages[0]
    assert "(13 in a row" in caplog.messages[1]


def test_two_reasons_that_take_turns_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    counted = CountedFailures()
    with caplog.at_level(logging.INFO):
        for second in range(50):
            counted.failures.failed("odd" if second % 2 else "even", float(second))
    assert len(caplog.messages) == 2


def test_the_end_of_a_failure_is_logged_once_and_success_never(caplog: pytest.LogCaptureFixture) -> None:
    counted = CountedFailures()
    with caplog.at_level(logging.INFO):
        counted.failures.worked()
        counted.failures.failed("why", 0.0)
        counted.failures.worked()
        counted.failures.worked()
        counted.failures.failed("why", 1.0)  # and it is news again when it comes back
    assert [message.split(":")[0] for message in caplog.messages] == [
        "discovery found nobody",
        "discovery works again, after 1 failures",
        "discovery found nobody",
    ]


async def test_polling_goes_on_after_no_news_and_passes_on_only_answers() -> None:
    counted = CountedFailures()
    candidates = Candidates()
    ask = Asked([PEER], NoNews("gone"), NoNews("gone"), [PEER])
    task = asyncio.create_task(poll(ask, candidates.found, counted.failures, interval_s=0.001, random=Random(1)))
    await candidates.times(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counted.count == 2
    assert all(call == [PEER] for call in candidates.calls)


async def test_nodes_that_started_together_do_not_go_on_asking_together() -> None:
    random = RecordedRandom()
    candidates = Candidates()
    task = asyncio.create_task(
        poll(Asked([PEER]), candidates.found, CountedFailures().failures, interval_s=0.01, random=random)
    )
    loop = asyncio.get_running_loop()
    await candidates.times(1)
    start_s = loop.time()
    await candidates.times(3)
    assert loop.time() - start_s >= 0.014  # two waits of the shortest length
    task.cancel()
    assert set(random.bounds) == {(0.8, 1.2)}


async def test_an_error_that_is_no_lack_of_news_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        await poll(
            Asked(ZeroDivisionError()), Candidates().found, CountedFailures().failures, interval_s=1, random=Random(1)
        )
