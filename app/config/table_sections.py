"""`[replication.tables.NAME]`: the only sections whose names a person chooses.

In the file, NAME is the table's, in quotes where TOML needs them. In a variable's name it stands in capitals, with `_`
for all but ASCII letters, digits and `_`. That finds a table that the file or the defaults name; else it is the table's
name itself, in small letters. SQLite tells no capitals apart, so only a name with other characters has to stand in the
file first.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from app.config.kinds import is_sql_name
from app.config.table import (
    TABLE_SECTION,
    TABLE_SETTINGS,
    TABLES_SECTION,
    Setting,
    env_name,
    of_table,
    section_of_table,
    shown_section,
)
from app.errors import ConfigError

SECTION, KEY = TABLES_SECTION.split(".")
"""Where these sections stand in what TOML gives: under a key of another section."""

_PREFIX = f"LITECAST_{SECTION}__{KEY}__".upper()
_LOOSE_PREFIX = re.sub("_+", "_", _PREFIX)
_BY_ENV_KEY = {setting.key.upper(): setting for setting in TABLE_SETTINGS}


def read_sections(file: object, value: object) -> Iterator[tuple[str, dict[str, object]]]:
    """Name and keys of each table that the file has a section for. Raises ConfigError, which begins with `file`."""
    if not isinstance(value, dict):
        raise _given_as_value(file, TABLES_SECTION, TABLE_SECTION)
    spelt: dict[str, str] = {}
    for name, keys in value.items():
        section = _section(name)
        if not is_sql_name(name):
            raise ConfigError(f"{file}: [{section}] cannot be the name of a table: write [{TABLE_SECTION}]")
        if not isinstance(keys, dict):
            raise _given_as_value(file, section, section)
        other = spelt.setdefault(name.lower(), name)
        if other != name:
            raise ConfigError(
                f"{file}: [{_section(other)}] and [{section}] are one table, since SQLite tells no capitals apart: "
                "keep one of the two"
            )
        yield name, keys


def _section(name: str) -> str:
    return shown_section(section_of_table(name))


def _given_as_value(file: object, given: str, section: str) -> ConfigError:
    return ConfigError(
        f"{file}: {given} is a section, and is given as a value: write [{section}] and its keys below it"
    )


def is_meant_for_table(variable: str) -> bool:
    """Whether an environment variable is meant for one of these sections, whatever the number of its underscores."""
    return re.sub("_+", "_", variable).startswith(_LOOSE_PREFIX)


def table_setting(variable: str, known: Sequence[str]) -> tuple[str, Setting[Any]] | None:
    """The table that a variable is for, and the setting; None if it names no setting. `known` are tables named so far.

    Raises ConfigError if it could be for several of them.
    """
    written, _, key = variable.removeprefix(_PREFIX).rpartition("__")
    setting = _BY_ENV_KEY.get(key)
    if setting is None or not variable.startswith(_PREFIX) or not written or written != env_name(written):
        return None
    table = _table_meant(variable, written, known)
    return table, of_table(setting, table)


def _table_meant(variable: str, written: str, known: Sequence[str]) -> str:
    possible = [table for table in known if env_name(table) == written]
    exact = [table for table in possible if table.upper() == written]
    if len(possible) > 1 and not exact:
        sections = " or ".join(f"[{_section(table)}]" for table in possible)
        raise ConfigError(
            f"environment variable {variable} could be for {sections}: set it in the file, in one of them"
        )
    return (exact or possible or [written.lower()])[0]
