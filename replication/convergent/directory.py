"""Which node writes under which site, and where it was reached, as far as it was ever heard here.

It outlives the process, for who is gone for good has to be named when nobody can hear it any more. Which of them are
forgotten stands in the database: their sites are closed."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from replication.convergent.messages import Closed
from replication.engine.closing import FORGOTTEN
from replication.engine.stamps import Site, is_site

log = logging.getLogger(__name__)

MEMBERS_FILE: Final = "members.json"
"""In `data_dir`: a copy of the database has other peers."""
MEMBERS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a node was heard as last. `address`: "" if none was known."""

    site: Site
    address: str


class Shelf(Protocol):
    """Where the directory is kept."""

    def read(self) -> str:
        """What was written; "" if nothing was. Raises OSError."""
        ...

    def write(self, text: str) -> None:
        """Keeps it. Raises OSError."""
        ...


class Directory:
    """See the module. A file that cannot be read or written costs what it would have known, and is logged."""

    def __init__(self, shelf: Shelf | None) -> None:
        self._shelf = shelf
        self._heard: dict[str, Heard] = {}

    def open(self) -> None:
        """Reads what was kept."""
        if self._shelf is None:
            return
        try:
            self._heard = _parsed(self._shelf.read())
        except (OSError, ValueError) as error:
            log.warning("which nodes were heard before is not known: %s", error)

    def hear(self, node: str, heard: Heard) -> None:
        """A node said under which site it writes."""
        if self._heard.get(node) == heard or (node not in self._heard and len(self._heard) >= MEMBERS_MAX):
            return
        self._heard[node] = heard
        if self._shelf is None:
            return
        try:
            self._shelf.write(json.dumps({name: asdict(one) for name, one in sorted(self._heard.items())}, indent=1))
        except OSError as error:
            log.warning("which nodes were heard cannot be kept: %s", error)

    def get(self, node: str) -> Heard | None:
        """What a node was heard as."""
        return self._heard.get(node)

    def names(self) -> list[str]:
        """All that were ever heard."""
        return sorted(self._heard)

    def forgotten(self, closed: Closed) -> Mapping[str, Heard]:
        """Those whose site is forgotten."""
        return {name: one for name, one in self._heard.items() if FORGOTTEN in closed.get(one.site, ())}


class MembersFile:
    """A file of its own in `data_dir`, which exists."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / MEMBERS_FILE

    def read(self) -> str:
        """Raises OSError."""
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def write(self, text: str) -> None:
        """Raises OSError; what was there stands then."""
        beside = self._path.with_name(f"{MEMBERS_FILE}.new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self._path)


def _parsed(text: str) -> dict[str, Heard]:
    """Raises ValueError if it is not what `Directory` wrote."""
    found: dict[str, Heard] = {}
    known = json.loads(text) if text else {}
    if not isinstance(known, dict):
        raise ValueError(f"{MEMBERS_FILE} is not as it was written")
    for name, one in known.items():
        if not isinstance(one, dict) or not is_site(one.get("site")) or not isinstance(one.get("address"), str):
            raise ValueError(f"{MEMBERS_FILE} is not as it was written")
        found[name] = Heard(site=Site(one["site"]), address=one["address"])
    return found
