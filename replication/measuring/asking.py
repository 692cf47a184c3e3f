"""Asking one node a question, until the whole answer is there or time is up."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from cluster.errors import CallError, CallTimeout, NodeDown, NoSuchActor
from replication.engine.received import Malformed
from replication.measuring.questions import DIGESTS, AskNext, NoAnswer, Part, Question, Working, parse_answer

CALL_TIMEOUT_S: Final = 5.0
"""For each call; a node that is working says so at once."""
WORKING_PAUSE_S: Final = 0.02
"""Beside what the node itself waits, so that a wrong one is not asked without end."""


class Bus(Protocol):
    """How a node is asked: `cluster.Node`, which also calls itself."""

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object:
        """Ask, and wait for the answer. Raises a CallError."""
        ...


class Unanswered(Exception):
    """A node gave no answer. The text says why, in a few words."""


async def ask[T](bus: Bus, node: str, question: Question, parse: Callable[[object], T], *, until_s: float) -> list[T]:
    """All parts of a node's answer, each made of what came by `parse`, which raises Malformed.

    `until_s` is when time is up, by the event loop's clock. Raises Unanswered.
    """
    loop = asyncio.get_running_loop()
    message: list[object] = question.plain()
    parts: list[T] = []
    try:
        while True:
            timeout_s = min(CALL_TIMEOUT_S, until_s - loop.time())
            if timeout_s <= 0:
                raise Unanswered("time was up before it had read its tables")
            match parse_answer(await bus.call(node, DIGESTS, message, timeout_s=timeout_s)):
                case Working(ref=ref):
                    await asyncio.sleep(WORKING_PAUSE_S)
                case Part(ref=ref, number=number, count=count, value=value):
                    if number != len(parts):
                        raise Malformed("a part of the answer that was not asked for")
                    parts.append(parse(value))
                    if len(parts) == count:
                        return parts
            message = AskNext(ref=ref, number=len(parts)).plain()
    except NoAnswer as exc:
        raise Unanswered(str(exc)) from exc
    except Malformed as exc:
        raise Unanswered(f"it sent something else than an answer: {exc}") from exc
    except CallError as exc:
        raise Unanswered(_why(exc)) from exc


async def ask_one[T](bus: Bus, node: str, question: Question, parse: Callable[[object], T], *, until_s: float) -> T:
    """An answer that has a single part. Otherwise as `ask`."""
    parts = await ask(bus, node, question, parse, until_s=until_s)
    if len(parts) != 1:
        raise Unanswered(f"it sent something else than an answer: {len(parts)} parts")
    return parts[0]


def _why(exc: CallError) -> str:
    match exc:
        case CallTimeout():
            return "it did not answer in time"
        case NodeDown():
            return "it is down"
        case NoSuchActor():
            return "it is only starting, or of another version of Litecast"
        case _:
            return str(exc)
