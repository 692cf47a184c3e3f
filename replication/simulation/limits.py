"""Limits made small, so that transactions of some hundred rows go the ways of those of a million."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

from replication.backup import reading, restoring, taking, what_to_keep
from replication.convergent import engine_work, parcels, serving
from replication.engine import applying, decoding, folding, journal

LARGE_BYTES: Final = 4_000

_SMALL: Final[tuple[tuple[ModuleType, str, int], ...]] = (
    (folding, "FEW_KEYS", 40),
    (folding, "PAGE_KEYS", 100),
    (folding, "PAGE_BYTES", 2_000),
    (decoding, "PIECE_ROWS", 60),
    (applying, "LARGE_BYTES", LARGE_BYTES),
    (journal, "PIECE_BYTES", 3_000),
    (serving, "WINDOW_BYTES", 3_000),
    (parcels, "PIECE_BYTES", 2_000),
    (engine_work, "CAST_MAX_BYTES", 5_000),
    (reading, "BATCH_BYTES", 3_000),
    (reading, "BATCH_MAX_COUNT", 6),
    (taking, "PIECE_BYTES", 40_000),
    (restoring, "MERGE_MAX_COUNT", 15),
    (what_to_keep, "FAN_IN", 3),
    (what_to_keep, "OBJECTS_TO_KEEP", 4),
)


@contextmanager
def small() -> Iterator[None]:
    """While it lasts."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _SMALL]
    try:
        for module, name, limit in _SMALL:
            setattr(module, name, limit)
        yield
    finally:
        for module, name, limit in before:
            setattr(module, name, limit)
