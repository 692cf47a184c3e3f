"""A write as a thing that can be sent: which verb of the Repo, with which arguments; and how it is carried out.

What cannot be sent is refused where it is asked for, before anybody is bothered, and again where it would be carried
out: the other side may be of another version, or no node at all."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from replication.errors import CannotForward, NoSuchFunction
from replication.primary.travelling import NotAValue, sendable, unpacked
from replication.transaction import Transaction

type Function = Callable[..., Any]
"""A registered one: it gets the transaction, then the arguments."""

STATEMENTS_MAX: Final = 1_000
_VERBS: Final = frozenset({"insert", "insert_many", "update", "delete", "execute", "statements", "function"})
_WRITES: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
_SKIPPED: Final = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z)|`[^`]*(?:`|\Z)|\[[^\]]*(?:\]|\Z)""",
    re.DOTALL,
)
"""What is not closed goes to the end: else each of a million brackets would be looked at for the rest of the text."""
_WORD: Final = re.compile(r"[A-Za-z_]\w*")


class NotNow(Exception):
    """This node does not write, or not any more: nothing was written."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One write. `arguments` are those of the Repo's verb of that name."""

    verb: str
    arguments: tuple[Any, ...]

    def plain(self) -> list[object]:
        """As it is sent. Raises CannotTravel and CannotForward."""
        self.check()
        return [self.verb, sendable(self.arguments)]

    def check(self) -> None:
        """Raises CannotForward for a statement that is no write."""
        if self.verb == "execute":
            check_is_write(self.arguments[0])
        elif self.verb == "statements":
            for sql, _ in self.arguments[0]:
                check_is_write(sql)

    def run(self, transaction: Transaction, functions: Mapping[str, Function]) -> Any:
        """Carries it out. Raises what the verb raises, and NoSuchFunction."""
        match self.verb:
            case "insert":
                return transaction.insert(*self.arguments)
            case "insert_many":
                return transaction.insert_many(*self.arguments)
            case "update":
                table, key, changes = self.arguments
                return transaction.update(table, _key(key), changes)
            case "delete":
                table, key = self.arguments
                return transaction.delete(table, _key(key))
            case "execute":
                return transaction.execute(*self.arguments)
            case "statements":
                return [transaction.execute(sql, params) for sql, params in self.arguments[0]]
            case _:
                name, arguments = self.arguments
                function = functions.get(name)
                if function is None:
                    raise NoSuchFunction(name, tuple(functions))
                return function(transaction, *arguments)


def parse(verb: object, arguments: object) -> Operation:
    """What a peer sent. Raises NotAValue, and CannotForward for a statement that is no write."""
    if not isinstance(verb, str) or verb not in _VERBS:
        raise NotAValue("not a verb")
    found = unpacked(arguments)
    if not isinstance(found, list) or not _has_its_shape(verb, found):
        raise NotAValue(f"not the arguments of {verb}")
    operation = Operation(verb, tuple(found))
    operation.check()
    return operation


def _has_its_shape(verb: str, arguments: list[Any]) -> bool:
    match verb, arguments:
        case ("insert", [str(), dict()]) | ("update", [str(), _, dict()]) | ("delete", [str(), _]):
            return True
        case "insert_many", [str(), list(rows)]:
            return all(isinstance(row, dict) for row in rows)
        case "execute", [str(), list() | dict()]:
            return True
        case "statements", [list(statements)]:
            return len(statements) <= STATEMENTS_MAX and all(_is_statement(one) for one in statements)
        case "function", [str(), list()]:
            return True
        case _:
            return False


def _is_statement(value: object) -> bool:
    match value:
        case [str(), list() | dict()]:
            return True
        case _:
            return False


def statements(given: Sequence[Any]) -> Operation:
    """A list of statements, each its SQL or a pair of SQL and parameters. Raises CannotForward if it is none."""
    if len(given) > STATEMENTS_MAX:
        raise CannotForward(f"{len(given)} statements are more than {STATEMENTS_MAX}: send them in parts")
    pairs: list[tuple[str, object]] = []
    for one in given:
        match one:
            case str():
                pairs.append((one, ()))
            case (str() as sql, tuple() | list() | dict() as params):
                pairs.append((sql, params))
            case _:
                raise CannotForward("a list of statements has SQL, or pairs of SQL and parameters, for items")
    return Operation("statements", (pairs,))


def check_is_write(sql: str) -> None:
    """Raises CannotForward unless it is INSERT, UPDATE, DELETE or REPLACE, WITH something before it perhaps."""
    words = [word.upper() for word in _WORD.findall(_SKIPPED.sub(" ", sql))]
    first = words[0] if words else ""
    if first in _WRITES or (first == "WITH" and not _WRITES.isdisjoint(words)):
        return
    shown = " ".join(sql.split())[:80]
    if first in ("CREATE", "ALTER", "DROP"):
        raise CannotForward(f"a schema is changed on each node by itself, with migrate() for instance: {shown}")
    if first in ("SELECT", "VALUES", "WITH", "EXPLAIN"):
        raise CannotForward(f"it writes nothing, read with all(): {shown}")
    raise CannotForward(f"only INSERT, UPDATE, DELETE and REPLACE are carried out on another node: {shown}")


def _key(key: object) -> Any:
    """A key of several columns is a tuple, and comes as a list."""
    return tuple(key) if isinstance(key, list) else key
