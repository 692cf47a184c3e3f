"""Errors on their way back: what the primary raised is raised where the write was asked for, as the same kind."""

from typing import Any, Final

from replication import errors
from replication.errors import CannotForward, OutcomeUnknown, ReplicationError
from replication.primary.travelling import NotAValue

TEXT_MAX_CHARS: Final = 1_000
PARTS_MAX: Final = 100
"""Columns of a key."""


def plain_error(error: ReplicationError) -> list[object]:
    """As it is sent: what it is called, and what it is made of. What is too long is cut: the bus takes it."""
    return ["refused", type(error).__name__, [_sendable(part) for part in _parts(error)]]


def short(text: str) -> str:
    """A text that an error is made of, as it is sent."""
    return text[:TEXT_MAX_CHARS].encode(errors="replace").decode()


def _sendable(part: object) -> object:
    match part:
        case None | bool() | float():
            return part
        case int() if -(2**63) <= part < 2**63:
            return part
        case bytes():
            return part[:TEXT_MAX_CHARS]
        case list():
            parts: list[object] = part
            return [_sendable(one) for one in parts[:PARTS_MAX]]
        case _:
            return short(str(part))


def _parts(error: ReplicationError) -> list[object]:
    match error:
        case errors.NoSuchTable():
            return [error.table]
        case errors.NoSuchColumn():
            return [error.table, error.column]
        case errors.NoSuchRow():
            key = error.key
            return [error.table, list(key) if isinstance(key, tuple) else key]
        case errors.DuplicateRow():
            return [error.table, list(error.columns)]
        case errors.ConstraintFailed():
            return [error.table, error.reason]
        case errors.UnsupportedValue():
            return [error.reason]
        case errors.QueryFailed():
            return [error.sql, error.reason]
        case errors.NoSuchFunction():
            return [error.name]
        case errors.TailConflict():
            return [list(error.against), error.count, error.size]
        case errors.TooFarAhead():
            return [error.ahead_s, error.bound_s]
        case errors.CannotForward() | errors.CannotConfirm():
            return [error.reason]
        case _:
            return [str(error)]


def raised(name: object, parts: object, *, node: str) -> ReplicationError:
    """The error that `plain_error` was given. Raises NotAValue."""
    if not isinstance(name, str) or not isinstance(parts, list) or len(parts) > 3:
        raise NotAValue("not an error")
    return _raised(name, parts, node)


def _raised(name: str, parts: list[Any], node: str) -> ReplicationError:
    match name, parts:
        case "NoSuchTable", [str(table)]:
            return errors.NoSuchTable(table)
        case "NoSuchColumn", [str(table), str(column)]:
            return errors.NoSuchColumn(table, column)
        case "NoSuchRow", [str(table), key]:
            return errors.NoSuchRow(table, tuple(key) if isinstance(key, list) else key)
        case "DuplicateRow", [str(table), list(columns)] if all(isinstance(one, str) for one in columns):
            return errors.DuplicateRow(table, tuple(columns))
        case "ConstraintFailed", [str(table), str(reason)]:
            return errors.ConstraintFailed(table, reason)
        case "UnsupportedValue", [str(reason)]:
            return errors.UnsupportedValue(reason)
        case "QueryFailed", [str(sql), str(reason)]:
            return errors.QueryFailed(sql, reason)
        case "NoSuchFunction", [str(function)]:
            return errors.NoSuchFunction(function)
        case "CannotTravel", [str(reason)]:
            return errors.CannotTravel(reason)
        case "CannotForward", [str(reason)]:
            return CannotForward(reason)
        case "CannotConfirm", [str(reason)]:
            return errors.CannotConfirm(reason)
        case "TooFarAhead", [float(ahead_s), float(bound_s)]:
            return errors.TooFarAhead(ahead_s, bound_s)
        case "TailConflict", [list(against), int(count), int(size)]:
            return errors.TailConflict([str(one) for one in against], count, size)
        case "OutcomeUnknown", [str(reason)]:
            return OutcomeUnknown(reason)
        case _, [str(text)]:
            return errors.PrimaryFailed(node, text)
        case _:
            raise NotAValue("not an error")
