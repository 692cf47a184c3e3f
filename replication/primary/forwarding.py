"""Where a write of this node's Repo goes: here while this node is the primary, else to the node that is.

A write that is forwarded is asked for again, with the same key, until it is answered or the time is over: of whoever is
the primary by then, which may be this node. While nobody is, it is held. Then it waits until
what it wrote can be read here."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cluster.errors import CallError, CallTimeout, NoSuchActor
from replication.acknowledging.levels import Ack, Sure
from replication.engine.epochs import epoch_of
from replication.errors import NoPrimary, NotConfirmed, NotVisibleYet, OutcomeUnknown, PrimaryFailed
from replication.positions import Position, PositionError
from replication.primary.fate import Fate
from replication.primary.operations import NotNow, Operation
from replication.primary.refusals import raised
from replication.primary.standing import Role, RoleStatus
from replication.primary.travelling import NotAValue, unpacked
from replication.primary.under_way import UnderWay

log = logging.getLogger(__name__)

WRITES: Final = "Writes"
"""The actor's name on every node."""
RETRY_S: Final = 0.1
LOOK_S: Final = 0.5


class Leading(Protocol):
    """Who is the primary."""

    @property
    def under_way(self) -> UnderWay: ...
    def may_write(self) -> bool: ...
    def check_ahead(self) -> None: ...
    def still_holds(self) -> bool: ...
    def epoch(self) -> int: ...
    def fate(self, position: Position) -> Fate | None: ...
    def still_writes(self, node: str, epoch: int) -> bool: ...
    def status(self) -> RoleStatus: ...
    async def next_change(self) -> None: ...


class Bus(Protocol):
    """What forwarding needs of `cluster.Node`."""

    @property
    def name(self) -> str: ...
    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object: ...


class WaitUntil(Protocol):
    """What `look` gives, once that is not None. Raises TimeoutError."""

    async def __call__[T](self, look: Callable[[], T | None], *, timeout_s: float) -> T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """`hold_s`: how long a write waits for a primary. `call_s`: how long for its answer, all attempts together.
    `visible_s`: how long until it can be read here."""

    hold_s: float = 5.0
    call_s: float = 5.0
    visible_s: float = 5.0


class _NotPrimary(Exception):
    """Who was asked does not write."""


class Forwarding:
    """See the module. `new_key` gives a key that nobody else makes; `wait_until` is `Replication.wait_until`.
    `carry_out` answers a request that came back: that was sent, and that this node carries out itself by now."""

    def __init__(
        self,
        leading: Leading,
        wait_until: WaitUntil,
        carry_out: Callable[[object], Awaitable[object]],
        *,
        new_key: Callable[[], str],
        timeouts: Timeouts,
    ) -> None:
        self.forwarded = 0
        self._leading = leading
        self._wait_until = wait_until
        self._carry_out = carry_out
        self._new_key = new_key
        self._timeouts = timeouts
        self._bus: Bus | None = None

    def start(self, bus: Bus) -> None:
        """The node runs."""
        self._bus = bus

    def guard(self) -> None:
        """Raises NotNow unless this node may write now; TooFarAhead."""
        if not self._leading.may_write():
            raise NotNow
        self._leading.check_ahead()

    async def latest(self) -> Position:
        """The position of all that is written by now: the empty one on the node that writes. Raises NoPrimary."""
        assert self._bus is not None, "forwarding was started"
        deadline_s = asyncio.get_running_loop().time() + self._timeouts.hold_s
        while True:
            node = await self.primary()
            if node == self._name:
                return Position()
            with contextlib.suppress(CallError, NotAValue):
                match await self._bus.call(node, WRITES, ["position"], timeout_s=self._timeouts.call_s):
                    case ["at", str(position)]:
                        return _position(position)
                    case _:
                        pass
            if asyncio.get_running_loop().time() >= deadline_s:
                raise NoPrimary(f"{node} does not say how far it is", self._timeouts.hold_s, LOOK_S)
            await self._pause(maybe_sent=True)

    async def primary(self) -> str:
        """The name of the node that writes, waited for up to `hold_s`. Raises NoPrimary."""
        deadline_s = asyncio.get_running_loop().time() + self._timeouts.hold_s
        while True:
            status = self._leading.status()
            if self._leading.may_write():
                return self._name
            if status.role is not Role.PRIMARY and status.primary is not None:
                return status.primary
            if asyncio.get_running_loop().time() >= deadline_s:
                raise NoPrimary(status.problem or "nobody holds the lease", self._timeouts.hold_s, LOOK_S)
            await self._pause(maybe_sent=False)

    def epoch(self) -> int:
        """In which this node writes; 0 if it does not, or if what it has written may not be acknowledged."""
        return self._leading.epoch() if self._leading.still_holds() else 0

    async def write[T](
        self, operation: Callable[[], Operation], here: Callable[[], Awaitable[T]], *, wait: bool, sure: Sure
    ) -> T | Any:
        """What the write returns. `here` carries it out on this node, as surely as that, and raises `NotNow` if it may
        not write.

        Raises what the verb raises, wherever it was carried out, a ForwardingError, and NotConfirmed."""
        loop = asyncio.get_running_loop()
        began_s, key, maybe_sent = loop.time(), "", ""
        plain: list[object] | None = None
        deadline_s = began_s + self._timeouts.hold_s
        while True:
            status = self._leading.status()
            if self._leading.may_write():
                with contextlib.suppress(NotNow, _NotPrimary), self._leading.under_way.one():
                    if plain is None:
                        return await self._here(here)
                    # Sent already: by its key, since the former primary may have written it, and this node have that.
                    return self._answered(await self._carry_out(["write", key, *plain]), self._name)[0]
            elif status.role is not Role.PRIMARY and status.primary is not None:
                if plain is None:
                    plain, key = [*operation().plain(), str(sure.level), sure.timeout_s], self._new_key()
                timeout_s = min(self._timeouts.call_s, max(RETRY_S, began_s + self._give_up_s - loop.time()))
                if sure.level is not Ack.LOCAL:
                    timeout_s += sure.timeout_s
                try:
                    return await self._forwarded(status.primary, ["write", key, *plain], timeout_s, wait=wait)
                except _NotPrimary:
                    pass
                except NoSuchActor as error:
                    log.debug("not forwarded: %s", error)
                except CallError as error:
                    maybe_sent = str(error)
                    if isinstance(error, CallTimeout):
                        deadline_s = min(deadline_s, loop.time() + RETRY_S)
            if loop.time() >= deadline_s:
                if maybe_sent:
                    raise OutcomeUnknown(maybe_sent)
                raise NoPrimary(status.problem or "nobody holds the lease", self._timeouts.hold_s, LOOK_S)
            await self._pause(maybe_sent=bool(maybe_sent) or status.primary is not None)

    @property
    def _give_up_s(self) -> float:
        return self._timeouts.hold_s + self._timeouts.call_s

    async def _here[T](self, here: Callable[[], Awaitable[T]]) -> T:
        result = await here()
        if not self._leading.still_holds():
            raise OutcomeUnknown("this node lost its lease while it was written")
        return result

    async def _pause(self, *, maybe_sent: bool) -> None:
        """Until somebody else is the primary, or for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S if maybe_sent else LOOK_S):
                await self._leading.next_change()

    async def _forwarded(self, primary: str, request: list[object], timeout_s: float, *, wait: bool) -> Any:
        assert self._bus is not None, "forwarding was started"
        answer = await self._bus.call(primary, WRITES, request, timeout_s=timeout_s)
        result, position = self._answered(answer, primary)
        self.forwarded += 1
        if wait:
            await self.until_visible(position, result, primary, visible_s=self._timeouts.visible_s)
        return result

    def _answered(self, answer: object, primary: str) -> tuple[Any, Position]:
        try:
            return _read(answer, primary)
        except NotAValue as error:
            raise OutcomeUnknown(f"{primary} answered what cannot be read: {error}") from None

    @property
    def _name(self) -> str:
        return "" if self._bus is None else self._bus.name

    async def until_visible(self, position: Position, result: object, primary: str, *, visible_s: float) -> None:
        """Returns once what the primary wrote can be read here, and whoever writes by then has it. Raises
        NotVisibleYet, OutcomeUnknown."""
        epoch = max(map(epoch_of, position.stamps), default=0)
        try:
            fate = await self._wait_until(lambda: self._leading.fate(position), timeout_s=visible_s)
        except TimeoutError:
            if not self._leading.still_writes(primary, epoch):
                raise OutcomeUnknown(f"{primary} wrote it, and may have sent it to nobody before it was gone") from None
            raise NotVisibleYet(position, result, visible_s) from None
        if fate is Fate.LOST:
            raise OutcomeUnknown(f"{primary} wrote it, and who followed began without it: it is a tail there")


def _read(answer: object, primary: str) -> tuple[Any, Position]:
    match answer:
        case ["done", result, str(position)]:
            at = _position(position)
            found = unpacked(result)
            if hasattr(found, "position"):
                found.position = at
            return found, at
        case ["not confirmed", result, str(position), str(where), float(timeout_s)]:
            raise NotConfirmed(_position(position), unpacked(result), where, timeout_s)
        case ["refused", name, parts]:
            raise raised(name, parts, node=primary)
        case ["not primary"]:
            raise _NotPrimary
        case ["failed", str(why), bool(unknown)]:
            if unknown:
                raise OutcomeUnknown(why)
            raise PrimaryFailed(primary, why)
        case ["error", str(why)]:
            raise PrimaryFailed(primary, f"it did not take the request: {why}")
        case _:
            raise NotAValue("not an answer")


def _position(text: str) -> Position:
    try:
        return Position.parse(text)
    except PositionError as error:
        raise NotAValue(str(error)) from None
