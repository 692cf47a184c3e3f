"""Where settings come from: a TOML file, the environment, and what Fly.io tells its machines.

Each source gives a `Layer`: the value of each key it has, as TOML would give it, and the name of the place where it
stood, for error messages. Nothing is checked here but that the keys exist.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.config import table_sections
from app.config.kinds import shown
from app.config.table import (
    BUS_BIND,
    CLUSTER_NAME,
    DATABASE_PATH,
    DISCOVERY_DNS_NAME,
    DISCOVERY_METHOD,
    HTTP_BIND,
    LEASE_REGION,
    NODE_NAME,
    NODE_REGION,
    SETTINGS,
    TABLE_SECTION,
    TABLE_SETTINGS,
    Setting,
    of_table,
    section_of_table,
    shown_section,
)
from app.errors import ConfigError

BUS_PORT = 7400
FLY_HTTP_BIND = "0.0.0.0:8080"

_PREFIX = "LITECAST_"
_SECTIONS = tuple(dict.fromkeys(setting.section for setting in SETTINGS))
_TOP_SECTIONS = tuple(section for section in _SECTIONS if section != TABLE_SECTION)
_BY_KEY = {(setting.section, setting.key): setting for setting in SETTINGS}
_BY_ENV = {setting.env: setting for setting in SETTINGS if setting not in TABLE_SETTINGS}
# LITECAST_NODE_NAME, with one underscore too few, would otherwise be ignored without a word.
_ALMOST = {re.sub("__", "_", name): name for name in _BY_ENV}
# A key that stands in the wrong section is more likely than one misspelt this badly.
_MISSPELT_MIN_RATIO = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value, and the name of the place where it stood."""

    value: object
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one source says, and the tables that it names: also one of which it says nothing further."""

    values: Mapping[Setting[Any], Given] = field(default_factory=dict[Setting[Any], Given])
    tables: tuple[str, ...] = ()


def read_file(path: Path) -> Layer:
    """What the TOML file says.

    Raises ConfigError if the file cannot be read, is not TOML in UTF-8, or has a key that does not exist.
    """
    values: dict[Setting[Any], Given] = {}
    tables: list[str] = []

    def put(setting: Setting[Any], value: object) -> None:
        values[setting] = Given(value=value, place=f"{path}: {setting}")

    for section, table in _parse(path).items():
        if section not in _TOP_SECTIONS:
            raise _unknown_section(path, section, table)
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {section} is a section, and is given as a value: write [{section}] and its keys below it"
            )
        for key, value in table.items():
            if (section, key) == (table_sections.SECTION, table_sections.KEY):
                for name, keys in table_sections.read_sections(path, value):
                    tables.append(name)
                    for table_key, table_value in keys.items():
                        put(_table_setting(path, name, table_key), table_value)
                continue
            setting = _BY_KEY.get((section, key))
            if setting is None:
                nearest = TABLE_SETTINGS[0] if _is_table(section, value) else _nearest(section, key)
                raise ConfigError(f"{path}: [{section}] has no key {shown(key)}; the nearest known key is {nearest}")
            put(setting, value)
    return Layer(values=values, tables=tuple(tables))


def _is_table(section: str, value: object) -> bool:
    """Whether a key that does not exist is probably the section of a table."""
    return section == table_sections.SECTION and isinstance(value, dict)


def _table_setting(path: Path, name: str, key: str) -> Setting[Any]:
    template = _BY_KEY.get((TABLE_SECTION, key))
    if template is not None:
        return of_table(template, name)
    nearest = _nearest(TABLE_SECTION, key)
    nearest = of_table(nearest, name) if nearest in TABLE_SETTINGS else nearest
    section = shown_section(section_of_table(name))
    raise ConfigError(f"{path}: [{section}] has no key {shown(key)}; the nearest known key is {nearest}")


def _parse(path: Path) -> dict[str, object]:
    try:
        # A byte order mark is what some editors begin every UTF-8 file with.
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; name the configuration file with --config FILE") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name the configuration file in it with --config FILE") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: is not UTF-8 (line {line}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path}: is not a configuration file: its values are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and what int() says of 5,000 digits
        raise ConfigError(f"{path}: is not TOML: {error}; the value of a text stands in quotes") from None


def _unknown_section(path: Path, section: str, table: object) -> ConfigError:
    if not isinstance(table, dict):
        place = f"{path}: {shown(section)} stands outside of any section"
        return ConfigError(f"{place}; the nearest known key is {_nearest('', section)}")
    near_section = difflib.get_close_matches(section, _SECTIONS, n=1, cutoff=0)[0]
    near = str(_nearest(near_section, next(iter(table)))) if table else f"in [{near_section}]"
    known = ", ".join(_SECTIONS)
    return ConfigError(
        f"{path}: no section is named {shown(section)}; the nearest known key is {near} (sections: {known})"
    )


def _nearest(section: str, key: str) -> Setting[Any]:
    """The known setting that was most likely meant by a key that does not exist. `section` is a known one, or empty."""
    own = [setting.key for setting in SETTINGS if setting.section == section]
    if not difflib.get_close_matches(key, own, n=1, cutoff=_MISSPELT_MIN_RATIO):
        for setting in SETTINGS:
            if setting.key == key:
                return setting
    if own:
        return _BY_KEY[section, difflib.get_close_matches(key, own, n=1, cutoff=0)[0]]
    keys = {setting.key: setting for setting in SETTINGS}
    return keys[difflib.get_close_matches(key, keys, n=1, cutoff=0)[0]]


def read_environment(environ: Mapping[str, str], *, tables: Sequence[str] = ()) -> Layer:
    """What `LITECAST_<SECTION>__<KEY>` variables say. An empty one counts as not set, but empties a list.

    `tables` are those that are known: a variable's name may mean one of them. Raises ConfigError for a variable of that
    form that names no setting.
    """
    values: dict[Setting[Any], Given] = {}
    named: dict[str, None] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(_PREFIX):
            continue
        table, setting = table_sections.table_setting(name, tables) or (None, _BY_ENV.get(name))
        if setting is not None:
            value = setting.kind.from_text(text)
            if text or isinstance(value, list):
                values[setting] = Given(value=value, place=f"environment variable {name}")
                named |= {} if table is None else {table: None}
        elif "__" in name or name in _ALMOST or table_sections.is_meant_for_table(name):
            near = _ALMOST.get(name) or _nearest_variable(name, tables)
            spelt = name if name.isprintable() else shown(name)
            raise ConfigError(f"environment variable {spelt} names no setting; the nearest known one is {near}")
    return Layer(values=values, tables=tuple(named))


def _nearest_variable(name: str, tables: Sequence[str]) -> str:
    of_tables = [of_table(setting, table).env for table in tables for setting in TABLE_SETTINGS]
    known = [*_BY_ENV, *(setting.env for setting in TABLE_SETTINGS), *of_tables]
    return difflib.get_close_matches(name, known, n=1, cutoff=0)[0]


def read_database_path(environ: Mapping[str, str]) -> Layer:
    """`DATABASE_PATH`, relative to the working directory: the programs that share it with the node read it so."""
    text = environ.get("DATABASE_PATH", "")
    if not text:
        return Layer()
    given = Given(value=str(Path.cwd() / text), place="environment variable DATABASE_PATH")
    return Layer(values={DATABASE_PATH: given})


def read_fly(environ: Mapping[str, str]) -> Layer:
    """What a machine on Fly.io is told about itself. Empty elsewhere, but for `MY_REGION` and
    `PRIMARY_REGION`.

    Raises ConfigError if `FLY_PRIVATE_IP` is not an IP address.
    """
    values: dict[Setting[Any], Given] = {}

    def put(setting: Setting[Any], variable: str, value: str) -> None:
        values[setting] = Given(value=value, place=f"environment variable {variable}: {setting}")

    for variable in ("MY_REGION", "FLY_REGION"):
        if region := environ.get(variable):
            put(NODE_REGION, variable, region)
    if primary_region := environ.get("PRIMARY_REGION"):
        put(LEASE_REGION, "PRIMARY_REGION", primary_region)
    if machine := environ.get("FLY_MACHINE_ID"):
        put(NODE_NAME, "FLY_MACHINE_ID", machine)
    if app := environ.get("FLY_APP_NAME"):
        put(CLUSTER_NAME, "FLY_APP_NAME", app)
        put(DISCOVERY_METHOD, "FLY_APP_NAME", "dns")
        put(DISCOVERY_DNS_NAME, "FLY_APP_NAME", f"{app}.internal")
        put(HTTP_BIND, "FLY_APP_NAME", FLY_HTTP_BIND)
    if ip := environ.get("FLY_PRIVATE_IP"):
        put(BUS_BIND, "FLY_PRIVATE_IP", f"tcp://{_bracketed(ip)}:{BUS_PORT}")
    return Layer(values=values)


def _bracketed(ip: str) -> str:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise ConfigError(
            f"environment variable FLY_PRIVATE_IP = {ip!r} is not an IP address; unset it outside of Fly"
        ) from None
    return f"[{address}]" if address.version == 6 else str(address)
