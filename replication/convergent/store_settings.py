"""What a node's store is made with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from replication.convergent.durability import Barrier
from replication.convergent.sidecar import Sidecar
from replication.declared import TableDeclaration
from replication.engine.applying import CLOCK_BOUND_MS
from replication.engine.stamps import Site
from replication.engine.trimming import JournalLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """See the module. `now_ms`: this node's clock, milliseconds since 1970."""

    cluster: str
    now_ms: Callable[[], int]
    new_site: Callable[[], Site]
    barrier: Barrier
    declared: Sequence[TableDeclaration] = ()
    """Tables to be attached, as soon as they are there."""
    sidecar: Sidecar
    new_nonce: Callable[[], bytes]
    clock_bound_ms: int = CLOCK_BOUND_MS
    journal_max_age_ms: int = 7 * 24 * 3_600_000
    journal_max_bytes: int = 1024**3
    fence: str | None = None
    """Where one node writes at a time: what the tables say until this one is granted the lease."""

    @property
    def one_writer(self) -> bool:
        """Whether one node writes at a time."""
        return self.fence is not None

    @property
    def journal_limits(self) -> JournalLimits:
        """What trimming leaves in the journal."""
        return JournalLimits(max_age_ms=self.journal_max_age_ms, max_bytes=self.journal_max_bytes)
