"""Changesets that cannot be merged, nobody knows why: they keep back nothing else, and what the world does to a
database, which passes, is not taken for their fault."""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from replication.engine.applying import Outcome
from replication.engine.identity import StateReplaced

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A changeset that could not be merged, nobody knows why. It is not asked for again in this run."""

    reason: str


type Merge = Callable[[Sequence[bytes]], list[Outcome]]
"""Merges changesets in one transaction: what each of them came to."""


def merge_what_can_be(merge: Merge, changesets: Sequence[bytes]) -> list[Outcome | Broken]:
    """What each of them came to: all in one transaction if nothing unexpected happens, else one by one.

    Raises StateReplaced, and what is the world's fault: sqlite3.Error and OSError."""
    try:
        return [*merge(changesets)]
    except (StateReplaced, OSError):
        raise
    except Exception as error:
        if is_the_worlds(error):
            raise
        if len(changesets) > 1:
            log.exception("a batch of %d changesets could not be merged; it is done one by one", len(changesets))
        return [_merge_alone(merge, encoded) for encoded in changesets]


def _merge_alone(merge: Merge, encoded: bytes) -> Outcome | Broken:
    try:
        (outcome,) = merge([encoded])
    except (StateReplaced, OSError):
        raise
    except Exception as error:
        if is_the_worlds(error):
            raise
        log.exception("a changeset could not be merged; it is left out until this node starts again")
        return Broken(reason=f"{type(error).__name__}: {error}")
    return outcome


_WORLDS_FAULTS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
    }
)


def is_the_worlds(error: Exception) -> bool:
    """True if it is the lock's, the disk's or the file's fault, and no changeset's: it is tried again."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _WORLDS_FAULTS
