"""No setting is undocumented, and nothing is documented that is no setting."""

import re
from pathlib import Path

from app.config import SETTINGS

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| `(?P<key>[a-z_]+)` \| `(?P<env>LITECAST_[A-Z_]+)` \| (?P<default>.+?) \| (?P<doc>.+?) \|$")


def test_every_setting_stands_in_the_documentation_as_it_is_in_the_table() -> None:
    documented = {}
    section = ""
    for line in (ROOT / "docs/configuration.md").read_text().splitlines():
        if line.startswith("### `["):
            section = line.removeprefix("### `[").removesuffix("]`")
        elif row := ROW.match(line):
            documented[section, row["key"]] = (row["env"], row["default"], row["doc"])
    assert documented == {(s.section, s.key): (s.env, s.default, s.doc) for s in SETTINGS}


def test_values_that_can_be_chosen_are_all_documented() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    for setting in SETTINGS:
        if " | " in setting.kind.what:
            for value in setting.kind.what.split(" | "):
                assert f"`{value}`" in text, f"{setting} = {value}"


def test_every_section_stands_in_the_sample_file() -> None:
    sample = (ROOT / "config.toml").read_text()
    sections = {setting.section.replace("NAME", "page_counts") for setting in SETTINGS}
    assert sections == set(re.findall(r"^\[([\w.]+)\]", sample, re.MULTILINE))
