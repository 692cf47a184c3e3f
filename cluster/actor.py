"""Actors: one bounded mailbox, one task, private state.

An actor is reached by (node, name) and never by reference, so that nobody notices whether it is on this node. Its
messages are handled one after the other in the order they came. A handler that raises crashes the actor: its state and
everything in its mailbox are gone (the messages are counted, pending calls are told at once), and its supervisor starts
a new one from its factory. That is OTP's contract, and `replication.naive` depends on how it loses things.

The mailbox is bounded for what other nodes can send: casts and calls beyond the bound are dropped and counted. What the
bus itself says (a node came, a node went) is never dropped, since its order against the messages is a promise.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.counters import Count, Counters
from cluster.errors import Gone

log = logging.getLogger(__name__)

MAILBOX_MAX_MESSAGES = 100_000
LATER_MAX = 10_000  # so many calls of an actor's wait for a later answer at most; what comes then waits in the mailbox
MESSAGES_PER_TURN = 500  # handled before other tasks of the loop get a turn; a burst then costs no await per message


class Actor:
    """Base class of actors; override what you need. State is private to the handlers."""

    name: str

    async def started(self) -> None:
        """Runs before the first message. Raising here counts as a crash."""

    async def stopped(self) -> None:
        """Runs after the last message of an orderly stop; not after a crash."""

    async def handle_cast(self, message: object, sender: str) -> None:
        """A fire-and-forget message from node `sender`."""
        raise UnexpectedMessage(self.name, "cast", message)

    async def handle_call(self, message: object, sender: str) -> object:
        """A request from node `sender`; what this returns is the answer.

        An `asyncio.Future` (a task is one) is answered with its result once it has one, and what comes after the
        request is handled meanwhile. If it fails, who asked is told that the actor crashed, and the actor goes on. It
        is cancelled when the actor ends."""
        raise UnexpectedMessage(self.name, "call", message)

    async def handle_info(self, info: object) -> None:
        """News of the bus itself: `NodeUp` and `NodeDown`, for who asked by `Node.monitor_nodes`."""


class UnexpectedMessage(Exception):
    """An actor got a message that it has no handler for; it crashes, as a GenServer without that clause does."""

    def __init__(self, actor: str, kind: str, message: object) -> None:
        super().__init__(f"{actor} does not handle the {kind} of a {type(message).__name__}")


class Answer(Protocol):
    """Where the outcome of a call goes: `answered` or `failed`, one of them, once."""

    def answered(self, value: object) -> None: ...

    def failed(self, reason: Gone) -> None: ...


type _Entry = tuple[object, str, Answer | None] | _Info


class _Info:
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Process:
    """A running actor: mailbox and task. `exited` is called once, with the error that ended it or None."""

    def __init__(
        self,
        actor: Actor,
        *,
        counters: Counters,
        exited: Callable[["Process", BaseException | None], None],
        mailbox_max_messages: int = MAILBOX_MAX_MESSAGES,
    ) -> None:
        self.actor = actor
        self.name = actor.name
        self._counters = counters
        self._exited = exited
        self._max = mailbox_max_messages
        self._mailbox: deque[_Entry] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._stopping = False
        self._answering: Answer | None = None
        self._later: dict[asyncio.Future[object], Answer] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the actor's task."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"actor {self.name}")

    @property
    def waiting(self) -> int:
        """Messages in the mailbox."""
        return len(self._mailbox)

    def put(self, message: object, sender: str, answer: Answer | None = None) -> bool:
        """Queue a cast, or a call if there is somewhere to answer to. False: the mailbox is full, it was not taken."""
        if len(self._mailbox) >= self._max:
            return False
        self._mailbox.append((message, sender, answer))
        wake = self._wake
        if wake is not None:
            self._wake = None
            if not wake.done():
                wake.set_result(None)
        return True

    def put_casts(self, messages: Sequence[object], sender: str) -> int:
        """Queue casts, in order; returns how many were taken: all, or as many as there was room for."""
        room = self._max - len(self._mailbox)
        if room < len(messages):
            messages = messages[: max(room, 0)]
        self._mailbox.extend([(message, sender, None) for message in messages])
        self._wake_up()
        return len(messages)

    def put_info(self, info: object) -> None:
        """Queue news of the bus; never refused."""
        self._mailbox.append(_Info(info))
        self._wake_up()

    def _wake_up(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    async def stop(self, *, timeout_s: float = 1.0) -> None:
        """Let the actor finish what is in its mailbox, within `timeout_s`, then end it. No effect if it has ended."""
        if self._task is None or self._task.done():
            return
        self._stopping = True
        self._wake_up()
        _, pending = await asyncio.wait({self._task}, timeout=timeout_s)
        if pending:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=timeout_s)

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            await self.actor.started()
            await self._work()
            await self.actor.stopped()
        except asyncio.CancelledError as exc:
            # Cancelled from outside, it stops. A handler that awaits what somebody else cancelled ends like this too.
            if not self._is_cancelled():
                error = self._crashed(exc)
        except Exception as exc:
            error = self._crashed(exc)
        finally:
            self._bury(Gone.STOPPED if error is None else Gone.CRASHED)
            self._exited(self, error)

    def _is_cancelled(self) -> bool:
        return self._task is not None and self._task.cancelling() > 0

    def _crashed(self, error: BaseException) -> BaseException:
        self._counters.increment(Count.CRASHES)
        # The message may hold user data: the type and text of the error must do.
        log.error("actor %s crashed: %s: %s", self.name, type(error).__name__, error)
        return error

    async def _work(self) -> None:
        mailbox, actor = self._mailbox, self.actor
        next_entry, handle_cast = mailbox.popleft, actor.handle_cast
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(MESSAGES_PER_TURN):
                if not mailbox:
                    break
                entry = next_entry()
                if isinstance(entry, _Info):
                    await actor.handle_info(entry.value)
                    continue
                message, sender, answer = entry
                if answer is None:
                    await handle_cast(message, sender)
                else:
                    self._answering = answer
                    value = await actor.handle_call(message, sender)
                    if isinstance(value, asyncio.Future):
                        self._answer_later(value, answer)
                    else:
                        answer.answered(value)  # raises if the value cannot be sent: the actor's own fault
                    self._answering = None
                    if len(self._later) >= LATER_MAX:
                        await asyncio.wait(list(self._later), return_when=asyncio.FIRST_COMPLETED)
            if mailbox:
                await asyncio.sleep(0)
                continue
            if self._stopping:
                if not self._later:
                    return
                await asyncio.wait(list(self._later))
                continue
            self._wake = loop.create_future()
            await self._wake

    def _answer_later(self, future: asyncio.Future[object], answer: Answer) -> None:
        self._later[future] = answer
        future.add_done_callback(self._answered_later)

    def _answered_later(self, future: asyncio.Future[object]) -> None:
        answer = self._later.pop(future, None)
        if answer is None:
            return
        try:
            answer.answered(future.result())
        except asyncio.CancelledError:
            answer.failed(Gone.STOPPED)
        except Exception as error:
            self._crashed(error)
            answer.failed(Gone.CRASHED)

    def _bury(self, reason: Gone) -> None:
        lost = 0
        while self._later:
            future, answer = self._later.popitem()
            answer.failed(reason)
            future.cancel()
        if self._answering is not None:
            self._answering.failed(reason)
            self._answering = None
        while self._mailbox:
            entry = self._mailbox.popleft()
            if isinstance(entry, _Info):
                continue
            lost += 1
            if entry[2] is not None:
                with contextlib.suppress(Exception):
                    entry[2].failed(reason)
        if lost:
            self._counters.increment(Count.MAILBOX_LOST, lost)
        self._max = 0  # nothing more is taken
