"""Two small files beside the database, by which any program sees the role of its node, as those of LiteFS can.

- `.primary` has the name of the node that writes. On that node itself it is not there; nor where none is known.
- `<database>-pos` has the position to which the database has come: the newest epoch's site and its stamp.

Each is replaced as a whole, by a rename: who reads it sees the one or the other state."""

import contextlib
from pathlib import Path
from typing import Final

PRIMARY: Final = ".primary"
POSITION_SUFFIX: Final = "-pos"


class Beside:
    """The files beside one database. Each method raises OSError."""

    def __init__(self, database: Path) -> None:
        self._primary = database.parent / PRIMARY
        self._position = database.with_name(database.name + POSITION_SUFFIX)
        self._told: tuple[str | None, str | None] = (None, None)

    def tell(self, *, primary: str | None, position: str) -> None:
        """`primary`: the other node that writes, None if it is this one, or none is known."""
        before_primary, before_position = self._told
        if primary is None:
            with contextlib.suppress(FileNotFoundError):
                self._primary.unlink()
        elif primary != before_primary:
            _replace(self._primary, primary)
        if position != before_position:
            _replace(self._position, position)
        self._told = (primary, position)

    def clear(self) -> None:
        """Takes `.primary` away: a node that does not run knows of none."""
        with contextlib.suppress(FileNotFoundError):
            self._primary.unlink()
        self._told = (None, self._told[1])


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text + "\n", encoding="utf-8")
    new.replace(path)
