"""Functions that a node runs for others: on the primary, or in a region.

Every node registers the same ones, by name. Unlike what `Repo.call` runs, such a function is no transaction: it does
what it likes, with the Repo of the node on which it runs. It is sent once and never again: when no answer comes,
whether it ran is unknown. Plain functions run in a thread, coroutine functions in the event loop, each beside the
others."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, Protocol

from cluster.actor import Actor
from cluster.errors import CallError, Gone, NodeDown, NoSuchActor
from replication.errors import NobodyThere, NobodyWrites, NoPrimary, NoSuchFunction, OutcomeUnknown, RpcFailed
from replication.positions import Position, PositionError
from replication.primary.carrying_out import RESULT_MAX_BYTES
from replication.primary.travelling import NotAValue, packed, sendable, unpacked

FUNCTIONS: Final = "Functions"
"""The actor's name on every node."""
TIMEOUT_S: Final = 5.0
RUNNING_MAX: Final = 1_000
"""So many run for others at a time; more are refused."""
NAME_MAX_CHARS: Final = 200
WHY_MAX_CHARS: Final = 1_000
RETRY_S: Final = 0.1
_LISTED_MAX: Final = 100

type Function = Callable[..., Any]


class Peer(Protocol):
    """Another live node."""

    @property
    def name(self) -> str: ...
    @property
    def region(self) -> str: ...


class Cluster(Protocol):
    """What is needed of `cluster.Node`."""

    @property
    def name(self) -> str: ...
    @property
    def region(self) -> str: ...
    def peers(self) -> Sequence[Peer]: ...
    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object: ...


class Writes(Protocol):
    """What is needed of mode primary."""

    async def primary(self) -> str:
        """The node that writes now, waited for. Raises NoPrimary."""
        ...

    def epoch(self) -> int:
        """In which this node writes; 0 if it does not, or if what it has written may not be acknowledged."""
        ...

    async def until_visible(self, position: Position, result: object, primary: str, *, visible_s: float) -> None:
        """Returns once what the primary wrote can be read here. Raises NotVisibleYet, OutcomeUnknown."""
        ...


class Functions:
    """See the module. `writes`: None in the modes in which every node writes. `position_now` is that of all that is
    committed here by now, in any program."""

    def __init__(
        self, writes: Writes | None, position_now: Callable[[], Position], *, random: Random | None = None
    ) -> None:
        self.registered: dict[str, Function] = {}
        self._writes = writes
        self._position_now = position_now
        self._random = random or Random()
        self._cluster: Cluster | None = None
        self._running = 0

    def start(self, cluster: Cluster) -> None:
        """The node runs."""
        self._cluster = cluster

    def register[F: Function](self, function: F) -> F:
        """Runs it for others from now on, under its name. Returns it, so that it decorates. Raises ValueError if
        another one has that name."""
        name = function.__name__
        if self.registered.setdefault(name, function) is not function:
            raise ValueError(f"another function is registered as {name!r}")
        return function

    # --- asking ---

    async def in_region(self, region: str, function: Function | str, *arguments: Any, timeout_s: float) -> Any:
        """What it returns: run here if this is the region, else on one of its live nodes. Raises NobodyThere,
        NoSuchFunction, RpcFailed, CannotTravel, OutcomeUnknown."""
        cluster, name = self._started, _name(function)
        if region == cluster.region:
            return await self._here(name, arguments)
        there = [peer.name for peer in cluster.peers() if peer.region == region]
        if not there:
            known = sorted({cluster.region, *(peer.region for peer in cluster.peers())})
            raise NobodyThere(f"no live node is in region {region!r}; there are nodes in {', '.join(known)}")
        node = self._random.choice(there)
        return _read(await self._ask(node, ["run", name, packed(arguments)], timeout_s), node, name)[0]

    async def on_primary(
        self, function: Function | str, *arguments: Any, timeout_s: float, visible_s: float | None
    ) -> Any:
        """What it returns, run on the primary. With `visible_s`, once all that is written there by then can be read
        here. Raises NobodyWrites, NoPrimary, what `in_region` raises, and NotVisibleYet, which has the result."""
        writes, name = self._writes, _name(function)
        if writes is None:
            raise NobodyWrites("running a function on the primary")
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while True:
            node = await writes.primary()
            if node == self._started.name and (epoch := writes.epoch()):
                result = await self._here(name, arguments)
                if writes.epoch() != epoch:
                    raise OutcomeUnknown("this node lost its lease while the function ran")
                return result
            answer = await self._ask(node, ["run on primary", name, packed(arguments)], timeout_s)
            if answer != ["not primary"]:
                break
            if loop.time() >= deadline_s:
                raise NoPrimary(f"{node} may not write just now", timeout_s, RETRY_S)
            await asyncio.sleep(RETRY_S)
        result, position = _read(answer, node, name)
        if visible_s is not None:
            await writes.until_visible(position, result, node, visible_s=visible_s)
        return result

    async def _here(self, name: str, arguments: Sequence[Any]) -> Any:
        function = self.registered.get(name)
        if function is None:
            raise NoSuchFunction(name, tuple(self.registered))
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        return await asyncio.to_thread(function, *arguments)

    async def _ask(self, node: str, request: list[object], timeout_s: float) -> object:
        try:
            return await self._started.call(node, FUNCTIONS, request, timeout_s=timeout_s)
        except NodeDown as error:
            raise OutcomeUnknown(str(error)) from None
        except NoSuchActor as error:
            if error.reason is Gone.UNKNOWN:
                raise NobodyThere(f"node {node} runs no functions: it is of an older version, or is stopping") from None
            raise OutcomeUnknown(str(error)) from None
        except CallError as error:
            raise OutcomeUnknown(str(error)) from None

    @property
    def _started(self) -> Cluster:
        assert self._cluster is not None, "functions are asked for once the node runs"
        return self._cluster

    # --- answering ---

    async def answer(self, request: object) -> object:
        """What to answer to a peer: a task, while the function runs. Raises nothing that is the peer's fault."""
        match request:
            case ["run" | "run on primary" as how, str(name), arguments] if len(name) <= NAME_MAX_CHARS:
                pass
            case _:
                return ["error", "not a request to run something"]
        try:
            found = unpacked(arguments)
        except NotAValue as error:
            return ["error", str(error)]
        if not isinstance(found, list):
            return ["error", "not arguments"]
        if name not in self.registered:
            return ["no such function", sorted(self.registered)[:_LISTED_MAX]]
        if self._running >= RUNNING_MAX:
            return ["error", f"{RUNNING_MAX} functions are running there already"]
        return asyncio.create_task(self._run(name, found, on_primary=how != "run"), name=f"function {name}")

    async def _run(self, name: str, arguments: list[Any], *, on_primary: bool) -> object:
        epoch = 0 if self._writes is None else self._writes.epoch()
        if on_primary and not epoch:
            return ["not primary"]
        self._running += 1
        try:
            result = sendable(await self._here(name, arguments), max_bytes=RESULT_MAX_BYTES)
            position = self._position_now() if on_primary else Position()  # of use only to who waits for the primary
        except Exception as error:
            return ["failed", f"{type(error).__name__}: {error}"[:WHY_MAX_CHARS]]
        finally:
            self._running -= 1
        if on_primary and self._writes is not None and self._writes.epoch() != epoch:
            return ["unknown", "the primary lost its lease while the function ran"]
        return ["done", result, str(position)]


class FunctionsWorker(Actor):
    """The actor that runs them for others."""

    name = FUNCTIONS

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    async def handle_cast(self, message: object, sender: str) -> None:
        """Nobody casts a request: who asks wants to know."""

    async def handle_call(self, message: object, sender: str) -> object:
        """A request to run something."""
        return await self._functions.answer(message)


def _name(function: Function | str) -> str:
    return function if isinstance(function, str) else function.__name__


def _read(answer: object, node: str, name: str) -> tuple[Any, Position]:
    match answer:
        case ["done", result, str(position)]:
            try:
                return unpacked(result), Position.parse(position)
            except (NotAValue, PositionError) as error:
                raise OutcomeUnknown(f"{node} answered what cannot be read: {error}") from None
        case ["no such function", list(known)]:
            raise NoSuchFunction(name, tuple(map(str, known)))
        case ["failed", str(why)]:
            raise RpcFailed(node, name, why)
        case ["unknown", str(why)]:
            raise OutcomeUnknown(why)
        case ["error", str(why)]:
            raise NobodyThere(f"node {node} did not run {name!r}: {why}")
        case _:
            raise OutcomeUnknown(f"{node} answered what cannot be read")
