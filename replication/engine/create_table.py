"""What a CREATE TABLE says and no pragma tells: CHECK constraints, generated columns, collations of columns.

Only as much of SQL is read as that takes: tokens, and parentheses. SQLite itself has accepted the text, so it is known
to be well-formed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space>   \s+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<string>  [xX]?'(?:[^']|'')*' )
    | (?P<quoted>  "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
    | (?P<word>    [^\W\d][\w$]* )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
_TABLE_CONSTRAINTS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    """A name without its quotes; anything else as it stands."""
    is_word: bool
    """Unquoted: it may be a keyword."""
    is_name: bool

    def is_keyword(self, keyword: str) -> bool:
        return self.is_word and self.text.upper() == keyword


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What was read of one CREATE TABLE. Column names are in lower case: SQLite tells them apart no further."""

    checks: tuple[frozenset[str], ...]
    """The columns that each CHECK mentions, through generated columns too."""
    collations: Mapping[str, str]
    """The collation of each column that declares one, in upper case."""


def read(sql: str, columns: Sequence[str]) -> Definition:
    """What `sql`, the CREATE TABLE of a table with these columns, says."""
    known = frozenset(column.lower() for column in columns)
    items = list(_items(list(_tokens(sql))))
    generated = {name: mentioned for item in items for name, mentioned in _generated(item, known)}
    checks = [mentioned for item in items for mentioned in _groups_after(item, "CHECK", known)]
    return Definition(
        checks=tuple(_resolved(mentioned, generated) for mentioned in checks),
        collations={name: collation for item in items for name, collation in _collation(item)},
    )


def _tokens(sql: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(sql):
        text = match.group()
        match match.lastgroup:
            case "space":
                continue
            case "quoted" if text[0] == "[":
                yield _Token(text[1:-1], is_word=False, is_name=True)
            case "quoted":
                yield _Token(text[1:-1].replace(text[0] * 2, text[0]), is_word=False, is_name=True)
            case "word":
                yield _Token(text, is_word=True, is_name=True)
            case _:
                yield _Token(text, is_word=False, is_name=False)


def _items(tokens: Sequence[_Token]) -> Iterator[list[_Token]]:
    """The comma-separated definitions of columns and table constraints."""
    depth = 0
    item: list[_Token] = []
    for token in tokens:
        if token.text == "(" and not token.is_name:
            depth += 1
            if depth == 1:
                continue
        elif token.text == ")" and not token.is_name:
            depth -= 1
            if depth == 0:
                yield item
                return
        if depth == 1 and token.text == "," and not token.is_name:
            yield item
            item = []
        elif depth >= 1:
            item.append(token)


def _groups_after(item: Sequence[_Token], keyword: str, known: frozenset[str]) -> Iterator[frozenset[str]]:
    """For each `keyword ( ... )`: the columns that stand between the parentheses."""
    for at, token in enumerate(item[:-1]):
        if token.is_keyword(keyword) and item[at + 1].text == "(":
            yield frozenset(_columns_in(item[at + 1 :], known))


def _columns_in(tokens: Sequence[_Token], known: frozenset[str]) -> Iterator[str]:
    depth = 0
    for at, token in enumerate(tokens):
        if not token.is_name:
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                return
        elif token.text.lower() in known and not (token.is_word and tokens[at + 1].text == "("):
            yield token.text.lower()


def _column_of(item: Sequence[_Token]) -> str | None:
    if not item or (item[0].is_word and item[0].text.upper() in _TABLE_CONSTRAINTS):
        return None
    name = item[0].text
    if name.startswith("'"):  # SQLite takes a string for a name here
        name = name[1:-1].replace("''", "'")
    return name.lower()


def _generated(item: Sequence[_Token], known: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    column = _column_of(item)
    if column is not None:
        for mentioned in _groups_after(item, "AS", known):
            yield column, mentioned


def _collation(item: Sequence[_Token]) -> Iterator[tuple[str, str]]:
    column = _column_of(item)
    if column is None:
        return
    depth = 0
    for at, token in enumerate(item[:-1]):
        if not token.is_name:
            depth += (token.text == "(") - (token.text == ")")
        elif depth == 0 and token.is_keyword("COLLATE"):
            yield column, item[at + 1].text.upper()


def _resolved(mentioned: frozenset[str], generated: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """`mentioned` with what the generated columns among it are made of, in place of these."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(mentioned)
    while waiting:
        column = waiting.pop()
        if column in seen:
            continue
        seen.add(column)
        if column in generated:
            waiting.extend(generated[column])
        else:
            found.add(column)
    return frozenset(found)
