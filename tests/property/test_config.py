"""Whatever stands in the file or the environment gives a Config or a ConfigError, and nothing else."""

import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.config import SETTINGS, Config, load_config
from app.errors import ConfigError

scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(
        [
            "none",
            "static",
            "dns",
            "zeroconf",
            "naive",
            "convergent",
            "row",
            "127.0.0.1:1",
            "tcp://[::]:0",
            "x" * 40,
            "json",
        ]
    ),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
keys = st.sampled_from(SETTINGS).map(lambda setting: (setting.section, setting.key))
tables = st.dictionaries(keys, values, max_size=5)


def as_toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            # JSON's escapes are TOML's, but for DEL, and for surrogate pairs, which ensure_ascii=False avoids.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(as_toml, value))}]"
        case _:
            return repr(value)


def outcome(content: bytes, environ: dict[str, str]) -> Config | ConfigError:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.toml")
        file.write_bytes(content)
        try:
            result: Config | ConfigError = load_config(file, environ)
        except ConfigError as error:
            result = error
    if isinstance(result, ConfigError):
        assert "\n" not in str(result)
        assert str(file) in str(result) or "environment variable" in str(result)
    return result


@given(st.binary(max_size=200))
def test_any_bytes_give_settings_or_one_line(content: bytes) -> None:
    outcome(content, {})


@given(st.text("[]{}=\"'.,#\\\n abcnode_1-", max_size=200))
def test_any_text_that_looks_like_toml_gives_settings_or_one_line(text: str) -> None:
    outcome(text.encode(), {})


@given(tables)
def test_any_value_of_a_known_key_gives_settings_or_names_the_key(table: dict[tuple[str, str], object]) -> None:
    text = "".join(f"{section}.{key} = {as_toml(value)}\n" for (section, key), value in table.items())
    result = outcome(text.encode(), {})
    if isinstance(result, ConfigError):
        assert any(f"[{section}] {key}" in str(result) for section, key in table)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.text(max_size=20))
def test_any_name_of_a_table_gives_a_declaration_or_one_line(name: str, variable: str) -> None:
    result = outcome(
        f"[replication.tables.{as_toml(name)}]\nmerge = 'row'".encode(),
        {f"LITECAST_REPLICATION__TABLES__{variable.replace(chr(0), '').upper()}__MERGE": "row"},
    )
    if isinstance(result, Config):
        assert name in {table.name for table in result.replication.tables}


@given(st.dictionaries(st.sampled_from([setting.env for setting in SETTINGS]), st.text(max_size=50), max_size=4))
def test_any_text_of_a_variable_gives_settings_or_names_the_variable(environ: dict[str, str]) -> None:
    result = outcome(b"", environ)
    if isinstance(result, ConfigError):
        assert any(name in str(result) for name in environ)
