"""What the program beside a node is told, and what it is not told."""

from collections.abc import Mapping
from pathlib import Path

OWN = "LITECAST_"
"""The node's settings begin so, and its secret is one of them."""


def environment_of_program(
    environ: Mapping[str, str], *, database: Path, name: str, region: str, url: str
) -> dict[str, str]:
    """The variables of a program beside the node of this name, whose web pages are at `url`.

    All of `environ` but the node's settings; `DATABASE_PATH`; and, so that `litecast status` and `litecast drift` ask
    this node when the program calls them, the settings that lead to it. Never the secret, nor where it lies.
    """
    kept = {variable: value for variable, value in environ.items() if not variable.startswith(OWN)}
    return kept | {
        "DATABASE_PATH": str(database),
        "LITECAST_NODE__NAME": name,
        "LITECAST_NODE__REGION": region,
        "LITECAST_HTTP__BIND": url.removeprefix("http://"),
    }
