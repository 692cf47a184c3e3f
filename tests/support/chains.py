"""Changesets of one site that join end to end."""

from collections.abc import Callable

from replication.engine.changesets import ChangeKind, Changeset, RowChange, digest, encode, table_change
from replication.engine.stamps import Site, Stamp, first_after


def chain(site: Site, count: int, cluster: str = "c", *, stamp_of: Callable[[int], Stamp] | None = None) -> list[bytes]:
    """Changesets of one site, one after the other. `stamp_of`: by their numbers, from 0."""
    found: list[bytes] = []
    at, previous = first_after(site), b""
    for number in range(count):
        upto = Stamp(0 if at == -1 else at + 1 + number) if stamp_of is None else stamp_of(number)
        row = RowChange(kind=ChangeKind.INSERT, key=(number,), life=1, cells={"t": "x" * number}, counts={})
        found.append(
            encode(
                Changeset(
                    cluster=cluster,
                    site=site,
                    after=at,
                    upto=upto,
                    previous=previous,
                    deps={},
                    tables=(table_change("t", ("id",), [row]),),
                )
            )
        )
        at, previous = upto, digest(found[-1])
    return found
