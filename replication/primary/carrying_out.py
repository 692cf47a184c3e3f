"""Carrying out on the primary what another node asks for, once, however often it asks.

The key of a write is a row of `_litecast_forwarded`, inserted in the transaction of the write, with what it returned.
So who asks again gets that. A write that failed left nothing, its key neither: it fails again, or succeeds now."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from replication.engine import forwarded
from replication.engine.values import pack, unpack
from replication.errors import CannotForward, ForwardingError, OutcomeUnknown, ReplicationError, RepoError
from replication.positions import Position
from replication.primary.operations import Function, NotNow, Operation, parse
from replication.primary.refusals import plain_error
from replication.primary.travelling import NotAValue, packed
from replication.transaction import Transaction

KEPT_MS: Final = 600_000
"""So long is a key kept: far longer than anybody goes on asking."""
KEY_MAX_CHARS: Final = 100
RESULT_MAX_BYTES: Final = 1_000_000

_FIND: Final = f"SELECT outcome FROM {forwarded.TABLE} WHERE key = ?"
_NOTE: Final = f"INSERT INTO {forwarded.TABLE} (key, at, outcome) VALUES (?, ?, ?)"
_FORGET: Final = f"DELETE FROM {forwarded.TABLE} WHERE at < ?"


class CarryingOut:
    """`transact` runs a function in a transaction of this node's database, and gives its result and its position. It
    raises NotNow, with nothing written, unless this node may write then. `still_may` says whether it may now."""

    def __init__(
        self,
        transact: "Callable[[Callable[[Transaction], Any]], Any]",
        still_may: Callable[[], bool],
        *,
        functions: Mapping[str, Function],
        now_ms: Callable[[], int],
    ) -> None:
        self._transact = transact
        self._still_may = still_may
        self._functions = functions
        self._now_ms = now_ms

    async def answer(self, request: object) -> list[object]:
        """What to answer to a peer's request. Raises nothing that is the peer's fault, or the disk's."""
        match request:
            case ["write", str(key), verb, arguments] if len(key) <= KEY_MAX_CHARS:
                pass
            case _:
                return ["error", "not a request to write"]
        try:
            operation = parse(verb, arguments)
        except NotAValue as error:
            return ["error", str(error)]
        except CannotForward as error:
            return plain_error(error)
        try:
            result, position = await self._once(key, operation)
        except NotNow:
            return ["not primary"]
        except (RepoError, ForwardingError) as error:
            return plain_error(error)
        except ReplicationError as error:
            return ["failed", str(error), error.outcome_unknown]
        except Exception as error:  # of a registered function
            return ["failed", f"{type(error).__name__}: {error}"[:1000], False]
        if not self._still_may():
            return plain_error(OutcomeUnknown("the primary lost its lease while it was written"))
        return ["done", result, str(position)]

    async def _once(self, key: str, operation: Operation) -> tuple[object, Position]:
        now_ms = self._now_ms()

        def work(transaction: Transaction) -> object:
            found = transaction.all(_FIND, (key,))
            if found:
                return _listed(unpack(found[0]["outcome"]))
            result = packed(operation.run(transaction, self._functions))
            outcome = pack(result)
            if len(outcome) > RESULT_MAX_BYTES:
                raise CannotForward(f"its result is larger than {RESULT_MAX_BYTES} bytes")
            transaction.execute(_NOTE, (key, now_ms, outcome))
            transaction.execute(_FORGET, (now_ms - KEPT_MS,))
            return result

        written = await self._transact(work)
        return written.result, written.position


def _listed(value: Any) -> Any:
    """Lists again for the tuples that `unpack` gives."""
    return [_listed(one) for one in value] if isinstance(value, tuple) else value
