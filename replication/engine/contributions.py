"""What each site adds to a counter, and their sum.

A contribution is one site's share of one counter in one life of a row: a number, and when it was written. It is always
whole, never a difference, so that merging it twice is merging it once.
"""

from collections.abc import Iterable

from replication.engine.merging import Contribution, merge_contribution
from replication.engine.values import INT64_MAX, INT64_MIN, Key, Value


def saturated(total: int) -> int:
    """A sum as a cell can hold it."""
    return max(INT64_MIN, min(INT64_MAX, total))


class Shares:
    """The contributions to some rows, each in its living life: by key and counter's number, by site's number."""

    __slots__ = ("_shares",)

    def __init__(self) -> None:
        self._shares: dict[tuple[Key, int], dict[int, Contribution]] = {}

    @classmethod
    def of(cls, rows: Iterable[tuple[Value, ...]], key_size: int) -> "Shares":
        """From rows of key, counter, site, value, stamp."""
        shares = cls()
        found = shares._shares
        for row in rows:
            number, site, value, stamp = row[key_size:]
            assert isinstance(number, int)
            assert isinstance(site, int)
            assert isinstance(value, int)
            assert isinstance(stamp, int)
            found.setdefault((row[:key_size], number), {})[site] = Contribution(stamp, value)
        return shares

    def get(self, key: Key, number: int, site: int) -> Contribution | None:
        """One site's."""
        return self._shares.get((key, number), {}).get(site)

    def put(self, key: Key, number: int, site: int, contribution: Contribution) -> None:
        """Takes the place of the site's."""
        self._shares.setdefault((key, number), {})[site] = contribution

    def merge(self, key: Key, number: int, site: int, theirs: Contribution, *, keeps_zeros: bool) -> int | None:
        """The counter's sum after one site's share has become `theirs`; None if it was merged before.

        A share of 0 is no share, and changes nothing, unless zeros are kept."""
        shares = self._shares.setdefault((key, number), {})
        mine = shares.get(site)
        if mine is None and not theirs.value and not keeps_zeros:
            return None
        if merge_contribution(mine, theirs) == mine:
            return None
        shares[site] = theirs
        return sum([share.value for share in shares.values()])

    def total(self, key: Key, number: int) -> int:
        """The sum, however large."""
        return sum(share.value for share in self._shares.get((key, number), {}).values())

    def split(self, key: Key, number: int, site: int) -> tuple[int, int]:
        """The others' sum, and this site's share."""
        shares = self._shares.get((key, number))
        if shares is None:
            return 0, 0
        own = shares[site].value if site in shares else 0
        return sum(share.value for share in shares.values()) - own, own
