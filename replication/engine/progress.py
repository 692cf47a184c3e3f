"""How far a transaction of the engine's is that takes long: for whoever looks at the node meanwhile, in any thread."""

from typing import Final

LARGE_ROWS: Final = 20_000
"""Nobody is told of less."""


class Progress:
    """What is done now, "" if nothing, and with how many rows."""

    __slots__ = ("rows", "what")

    def __init__(self) -> None:
        self.what = ""
        self.rows = 0

    def begin(self, what: str) -> None:
        """Something begins, or, with "", is over."""
        self.what, self.rows = what, 0

    def in_words(self) -> str:
        """For people; "" if it is nothing large."""
        what, rows = self.what, self.rows
        return f"{what} a large transaction: {rows:,} rows so far" if what and rows >= LARGE_ROWS else ""
