"""Carrying out on the primary what another node asks for, once, however often it asks.

The key of a write is a row of `_litecast_forwarded`, inserted in the transaction of the write, with what it returned.
So who asks again gets that. A write that failed left nothing, its key neither: it fails again, or succeeds now."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from replication.acknowledging.levels import Ack, Sure
from replication.engine import forwarded
from replication.engine.values import pack, unpack
from replication.errors import (
    CannotConfirm,
    CannotForward,
    ForwardingError,
    NotConfirmed,
    OutcomeUnknown,
    ReplicationError,
    RepoError,
)
from replication.positions import Position
from replication.primary.operations import Function, NotNow, Operation, parse
from replication.primary.refusals import plain_error, short
from replication.primary.travelling import NotAValue, sendable
from replication.transaction import Transaction, Written

KEPT_MS: Final = 600_000
"""So long is a key kept: far longer than anybody goes on asking."""
KEY_MAX_CHARS: Final = 100
RESULT_MAX_BYTES: Final = 1_000_000
SURE_MAX_S: Final = 600.0

_FIND: Final = f"SELECT outcome FROM {forwarded.TABLE} WHERE key = ?"
_NOTE: Final = f"INSERT INTO {forwarded.TABLE} (key, at, outcome) VALUES (?, ?, ?)"
_FORGET: Final = f"DELETE FROM {forwarded.TABLE} WHERE at < ?"


class CarryingOut:
    """`transact` runs a function in a transaction of this node's database, and gives its result and its position. It
    raises NotNow, with nothing written, unless this node may write then. `confirmed` waits until that is as sure as is
    asked for; `check` raises CannotConfirm if that can never be. `still_may` says whether this node may write now."""

    def __init__(
        self,
        transact: "Callable[[Callable[[Transaction], object]], Awaitable[Written[object]]]",
        confirmed: "Callable[[Written[Any], Sure], Awaitable[None]]",
        check: Callable[[Sure], None],
        still_may: Callable[[], bool],
        position_now: Callable[[], Position],
        *,
        functions: Mapping[str, Function],
        now_ms: Callable[[], int],
    ) -> None:
        self._transact = transact
        self._confirmed = confirmed
        self._check = check
        self._still_may = still_may
        self._position_now = position_now
        self._functions = functions
        self._now_ms = now_ms

    async def answer(self, request: object) -> list[object]:
        """What to answer to a peer's request, once a write is as sure as it asks for. Raises nothing that is the peer's
        fault, or the disk's."""
        match request:
            case ["position"]:
                return self._position()
            case ["write", str(key), verb, arguments, level, timeout_s] if len(key) <= KEY_MAX_CHARS:
                sure = _sure(level, timeout_s)
                return ["error", "not how sure"] if sure is None else await self._write(key, verb, arguments, sure)
            case _:
                return ["error", "not a request to write"]

    async def _write(self, key: str, verb: object, arguments: object, sure: Sure) -> list[object]:
        try:
            operation = parse(verb, arguments)
            self._check(sure)
        except NotAValue as error:
            return ["error", str(error)]
        except (CannotForward, CannotConfirm) as error:
            return plain_error(error)
        try:
            written = await self._once(key, operation)
        except NotNow:
            return ["not primary"]
        except (RepoError, ForwardingError) as error:
            return plain_error(error)
        except ReplicationError as error:
            return ["failed", short(str(error)), error.outcome_unknown]
        except Exception as error:  # of a registered function
            return ["failed", short(f"{type(error).__name__}: {error}"), False]
        try:
            await self._confirmed(written, sure)
        except NotConfirmed as error:
            return ["not confirmed", written.result, str(written.position), error.where, sure.timeout_s]
        return self._done(written)

    def _done(self, written: Written[object]) -> list[object]:
        """Looked at last: what was confirmed before the lease was lost is with a majority, what came after may be in no
        newer epoch."""
        if not self._still_may():
            return plain_error(OutcomeUnknown("the primary lost its lease while it was written"))
        return ["done", written.result, str(written.position)]

    def _position(self) -> list[object]:
        """Of all that is committed here, by any program: read first, so that nobody else wrote before that."""
        position = self._position_now()
        return ["at", str(position)] if self._still_may() else ["not primary"]

    async def _once(self, key: str, operation: Operation) -> Written[object]:
        now_ms = self._now_ms()

        def work(transaction: Transaction) -> object:
            found = transaction.all(_FIND, (key,))
            if found:
                return _listed(unpack(found[0]["outcome"]))
            result = sendable(operation.run(transaction, self._functions), max_bytes=RESULT_MAX_BYTES)
            transaction.execute(_NOTE, (key, now_ms, pack(result)))
            transaction.execute(_FORGET, (now_ms - KEPT_MS,))
            return result

        return await self._transact(work)


def _sure(level: object, timeout_s: object) -> Sure | None:
    if level not in list(Ack) or not isinstance(timeout_s, int | float) or not 0 <= timeout_s <= SURE_MAX_S:
        return None
    return Sure(level=Ack(str(level)), timeout_s=float(timeout_s))


def _listed(value: Any) -> Any:
    """Lists again for the tuples that `unpack` gives."""
    return [_listed(one) for one in value] if isinstance(value, tuple) else value
