"""The kinds of value a setting can have: what TOML gives, or text from the environment, into what the program uses.

`Kind.read` raises ValueError with a text that completes "FILE: [section] key ...": what the value is, and what it
should be. A secret's text never shows the value.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cluster.address import Address, parse_address
from cluster.errors import AddressError, SecretError
from cluster.security import Secret

_SHOWN_MAX_CHARS = 60
_DAY_S = 86_400
_NODES_MAX = 512  # as many as the bus keeps
_BYTES_MAX = 2**63 - 1  # what SQLite can count
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Kind[T]:
    """One kind of value. `from_text` turns an environment variable's text into what TOML would have given."""

    what: str
    read: Callable[[object], T]
    from_text: Callable[[str], object] = str


def shown(value: object) -> str:
    """The value as an error message quotes it: on one line, and not longer than it takes to recognise it."""
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX_CHARS else text[:_SHOWN_MAX_CHARS] + "..."


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"= {shown(value)} is {_type_name(value)}, and text in quotes is needed")
    return value


def _type_name(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case str():
            return "text"
        case _:
            return "a date or time"


def _name(value: object) -> str:
    text = _text(value)
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"= {shown(text)} is not a name: 1 to 63 letters, digits, '.', '-' and '_', a letter or digit first"
        )
    return text


def _dns_name(value: object) -> str:
    text = _text(value)
    try:
        host = Address(text, 0)
    except AddressError:
        host = None
    if host is None or host.is_ip or host.is_wildcard:
        raise ValueError(f"= {shown(text)} is not a DNS name: write one such as 'my-app.internal', without a port")
    return host.host


def _path(value: object) -> Path:
    text = _text(value)
    if not text or not text.isprintable():
        raise ValueError(f"= {shown(text)} is not a path")
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises where there is no home


def _address(value: object) -> Address:
    text = _text(value)
    try:
        return parse_address(text)
    except AddressError as error:
        raise ValueError(f"is wrong: {error}") from None


def _addresses(value: object) -> tuple[Address, ...]:
    if not isinstance(value, list):
        raise ValueError(f"= {shown(value)} is {_type_name(value)}, and a list of addresses is needed: ['HOST:PORT']")
    return tuple(_address(item) for item in value)


def _port(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError(f"= {shown(value)} is not a port: a whole number from 1 to 65535 is needed")
    return value


def _bytes(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _BYTES_MAX:
        raise ValueError(f"= {shown(value)} is not a number of bytes: a whole number from 1 to {_BYTES_MAX} is needed")
    return value


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _NODES_MAX:
        raise ValueError(f"= {shown(value)} is not a number of nodes: a whole number from 1 to {_NODES_MAX} is needed")
    return value


def _url(value: object) -> str:
    text = _text(value)
    scheme, colon, rest = text.partition("://")
    if not colon or not scheme.isalnum() or not rest or not text.isprintable():
        raise ValueError(
            "is not a URL: write one such as 's3://bucket/folder', 'file:///srv/lease' or, for Consul, 'http://HOST:8500'"
        )
    if "@" in rest.partition("/")[0]:
        raise ValueError(
            "has a user or a password in it: leave those to the environment, AWS_ACCESS_KEY_ID for instance"
        )
    return text


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"= {shown(value)} is {_type_name(value)}, and true or false is needed, without quotes")
    return value


def _column(value: object) -> str:
    text = _text(value)
    if not is_sql_name(text):
        raise ValueError(f"= {shown(text)} is not the name of a column")
    return text


def _columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"= {shown(value)} is {_type_name(value)}, and a list of columns is needed: ['NAME']")
    return tuple(_column(item) for item in value)


def _renames(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f'= {shown(value)} is {_type_name(value)}, and old and new names are needed: {{OLD = "NEW"}}')
    renames = {_column(old): _column(new) for old, new in value.items()}
    for old, new in renames.items():
        if list(renames.values()).count(new) > 1:
            raise ValueError(f"names {shown(new)} as the new name of two columns")
        seen = {old}
        while new not in seen and new in renames:
            seen.add(new)
            new = renames[new]
        if new in seen:
            raise ValueError(f"goes round in a circle: {shown(old)} becomes {shown(old)} again")
    return renames


def is_sql_name(text: str) -> bool:
    """Whether a table or a column can have this name: SQLite takes nearly anything between quotes."""
    try:
        return bool(text.encode()) and "\0" not in text
    except UnicodeEncodeError:  # what the environment has instead of bytes that are not UTF-8
        return False


def _secret(value: object) -> Secret:
    if not isinstance(value, str):
        raise ValueError(f"is {_type_name(value)}, and text in quotes is needed; `litecast keygen` prints a good one")
    try:
        value.encode()
        return Secret(value)
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8; `litecast keygen` prints a good one") from None
    except SecretError as error:
        raise ValueError(f"is wrong: {error}") from None


def _number(text: str) -> object:
    """The number that the text is, or the text itself, which is then refused as not being one."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _items(text: str) -> object:
    return [item for part in text.split(",") if (item := part.strip())]


def _pairs(text: str) -> object:
    pairs = [item.partition("=") for part in text.split(",") if (item := part.strip())]
    return {old.strip(): new.strip() for old, _, new in pairs}


def _truth(text: str) -> object:
    """What TOML would have said, or the text itself, which is then refused."""
    return {"true": True, "false": False}.get(text.lower(), text)


def _seconds(at_most_s: int) -> Kind[float]:
    """More than 0, since no setting means anything at 0; the limit tells a time in milliseconds from one in seconds."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= at_most_s:
            raise ValueError(
                f"= {shown(value)} is not a number of seconds: more than 0 and at most {at_most_s} is needed"
            )
        return float(value)

    return Kind("seconds", read, _number)


def choice[E: StrEnum](options: type[E]) -> Kind[E]:
    """One of an enumeration's values."""
    known = " | ".join(options)

    def read(value: object) -> E:
        text = _text(value)
        try:
            return options(text)
        except ValueError:
            raise ValueError(f"= {shown(text)} is not one of {known}") from None

    return Kind(known, read)


NAME = Kind("name", _name)
DNS_NAME = Kind("DNS name", _dns_name)
PATH = Kind("path", _path)
ADDRESS = Kind("address", _address)
ADDRESSES = Kind("list of addresses", _addresses, _items)
PORT = Kind("port", _port, _number)
SECONDS = _seconds(_DAY_S)
AGE = _seconds(3660 * _DAY_S)
BYTES = Kind("bytes", _bytes, _number)
SIZE = Kind("number of nodes", _size, _number)
URL = Kind("URL", _url)
BOOLEAN = Kind("true or false", _boolean, _truth)
COLUMNS = Kind("list of columns", _columns, _items)
RENAMES = Kind("old and new names of columns", _renames, _pairs)
SECRET = Kind("secret", _secret)
