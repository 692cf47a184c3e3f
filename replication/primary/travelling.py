"""Values on their way between two nodes: what a forwarded write is given, and what it returns.

Plain values, lists, maps with text as keys, and rows. Each is tagged, and no text of the application's is a key of a
map on the wire: msgpack interns keys, and Python 3.12 never frees them. Tuples arrive as lists."""

from collections.abc import Mapping
from typing import Any, Final, cast

from cluster.wire import encode_payload
from replication.errors import CannotTravel
from replication.rows import Row

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1
DEPTH_MAX: Final = 8
ITEMS_MAX: Final = 20_000
"""Of one list: the wire takes no more than 50,000 lists in a message."""


SENDABLE_MAX_BYTES: Final = 3_900_000
"""The bus takes 4 MiB, the rest of a request included."""


class NotAValue(ValueError):
    """A peer sent something that is none of these."""


def sendable(value: object, *, max_bytes: int = SENDABLE_MAX_BYTES) -> list[object]:
    """The value as it is sent, and the bus takes it. Raises CannotTravel, which says why not."""
    found = packed(value)
    try:
        size = len(encode_payload([found]))  # as it is sent: inside of something
    except (ValueError, TypeError, OverflowError) as error:
        raise CannotTravel(f"it is too large to be sent: {error}") from None
    if size > max_bytes:
        raise CannotTravel(f"it is too large to be sent: {size} bytes, and at most {max_bytes} can be")
    return found


def packed(value: object, *, depth: int = 0) -> list[object]:
    """The value as it is sent. Raises CannotTravel, which says what of it cannot."""
    if depth > DEPTH_MAX:
        raise CannotTravel(f"it is nested more than {DEPTH_MAX} deep")
    match value:
        case None | bool() | float() | str() | bytes():
            return ["v", _checked_text(value) if isinstance(value, str) else value]
        case int():
            if not _INT_MIN <= value <= _INT_MAX:
                raise CannotTravel(f"{value} does not fit into 64 bits")
            return ["v", value]
        case bytearray() | memoryview():
            return ["v", bytes(cast("bytes", value))]
        case Row():
            return ["r", value.table, [*value], [packed(one, depth=depth + 1) for one in value.values()]]
        case Mapping():
            found = cast("Mapping[object, object]", value)
            if not all(isinstance(key, str) for key in found):
                raise CannotTravel("a key of it is not text")
            keys = [_checked_text(key) for key in cast("Mapping[str, object]", value)]
            return ["m", keys, [packed(one, depth=depth + 1) for one in found.values()]]
        case list() | tuple():
            items = cast("list[object]", value)
            if len(items) > ITEMS_MAX:
                raise CannotTravel(f"it has more than {ITEMS_MAX} items: send it in parts")
            return ["l", [packed(one, depth=depth + 1) for one in items]]
        case _:
            raise CannotTravel(f"a {type(value).__name__} has no form in which it could be sent")


def _checked_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CannotTravel("a text in it is not UTF-8") from None
    return text


def unpacked(value: object) -> Any:
    """What `packed` was given. Raises NotAValue."""
    match value:
        case ["v", None | bool() | int() | float() | str() | bytes() as plain]:
            return plain
        case ["r", str(table), list(names), list(values)] if _are_names(names, values):
            return Row(table, zip(names, map(unpacked, values), strict=True))
        case ["m", list(names), list(values)] if _are_names(names, values):
            return dict(zip(names, map(unpacked, values), strict=True))
        case ["l", list(values)]:
            return [unpacked(one) for one in values]
        case _:
            raise NotAValue("not a value")


def _are_names(names: list[Any], values: list[Any]) -> bool:
    return len(names) == len(values) and all(isinstance(name, str) for name in names)
