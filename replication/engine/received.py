"""Plain values that came from a peer, each checked when it is read: Malformed, and nothing else, if it is not one."""

from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgpack

from replication.engine.coverage import TIPS_BYTES, Coverage
from replication.engine.stamps import STAMP_MAX, Site, Stamp, is_site
from replication.engine.values import INT64_MAX, Value

NAME_MAX: Final = 4_096
COLUMNS_MAX: Final = 2_000  # SQLite's own limit
SITES_MAX: Final = 100_000
_VALUE_TYPES: Final = frozenset({type(None), int, float, str, bytes})


class Malformed(ValueError):
    """What a peer sent is not what it should be. Nothing was taken from it."""


def fields(value: object, *names: str) -> list[Any]:
    """The values of a map that has these keys and no others, in this order."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise Malformed(f"not a map of {', '.join(names)}")
    return [value[name] for name in names]


def name(value: object) -> str:
    """A name of a table or column."""
    if not isinstance(value, str) or not 0 < len(value) <= NAME_MAX:
        raise Malformed("not a name")
    return value


def distinct_names(value: object) -> tuple[str, ...]:
    """Names of columns, none twice."""
    if not isinstance(value, list | tuple) or len(value) > COLUMNS_MAX:
        raise Malformed("not a list of names")
    found = tuple(name(one) for one in value)
    if len(set(found)) != len(found):
        raise Malformed("a name occurs twice")
    return found


def text(value: object, *, at_most: int) -> str:
    """Any text up to a length."""
    if not isinstance(value, str) or len(value) > at_most:
        raise Malformed(f"not a text of at most {at_most} characters")
    return value


def whole(value: object, *, low: int, high: int) -> int:
    """An integer from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise Malformed(f"not an integer from {low} to {high}")
    return value


def flag(value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise Malformed("neither true nor false")
    return value


def data(value: object, *, size: int | None = None) -> bytes:
    """Bytes, and how many."""
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise Malformed("not bytes" if size is None else f"not {size} bytes")
    return value


def listed(value: object, *, at_most: int) -> list[Any] | tuple[Any, ...]:
    """A list up to a length."""
    if not isinstance(value, list | tuple) or len(value) > at_most:
        raise Malformed(f"not a list of at most {at_most}")
    return value


def stamps(value: object) -> dict[Site, Stamp]:
    """A stamp for each of some sites."""
    if not isinstance(value, dict) or len(value) > SITES_MAX:
        raise Malformed("not a map of sites")
    return {site(one): Stamp(whole(stamp, low=-1, high=STAMP_MAX)) for one, stamp in value.items()}


def coverage(vector: object, closed: object) -> Coverage:
    """How far each site is merged."""
    if not isinstance(closed, dict) or len(closed) > SITES_MAX:
        raise Malformed("not a map of sites")
    tips = {site(one): data(hashed, size=TIPS_BYTES) for one, hashed in closed.items()}
    return Coverage(vector=stamps(vector), closed=tips)


def site(value: object) -> Site:
    """A site."""
    if not isinstance(value, str) or not is_site(value):
        raise Malformed("not a site")
    return Site(value)


def mapped(value: object, *, at_most: int) -> Mapping[str, Any]:
    """A map whose keys are names."""
    if not isinstance(value, dict) or len(value) > at_most:
        raise Malformed(f"not a map of at most {at_most}")
    return {name(key): one for key, one in value.items()}


def values(value: object) -> tuple[Value, ...]:
    """What cells hold."""
    if not isinstance(value, tuple) or len(value) > COLUMNS_MAX:
        raise Malformed("not a list of values")
    for one in value:
        if type(one) not in _VALUE_TYPES or (type(one) is int and one > INT64_MAX) or one != one:
            raise Malformed("not a value that SQLite stores")
    return value


def unpacked(packed: object, *, bytes_max: int) -> Any:
    """What `values.pack` was given: no maps, and tuples for lists."""
    if len(data(packed)) > bytes_max:
        raise Malformed(f"larger than {bytes_max} bytes")
    try:
        return msgpack.unpackb(
            packed, use_list=False, unicode_errors="surrogateescape", object_pairs_hook=_no_map, ext_hook=_no_extension
        )
    except Malformed:
        raise
    except Exception as error:  # msgpack's own, ValueError, RecursionError: whatever it is, the bytes are at fault
        raise Malformed(f"not packed values ({type(error).__name__})") from error


def _no_map(_pairs: object) -> NoReturn:
    raise Malformed("packed values have no maps")


def _no_extension(_code: int, _data: bytes) -> NoReturn:
    raise Malformed("packed values have no extension types")
