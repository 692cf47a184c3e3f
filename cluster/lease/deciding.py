"""What time says about a lease. Pure: the moment comes in as an argument.

All times are seconds of one node's own monotonic clock that counts suspension (`boot_clock`), and are never compared
between nodes. Only durations are, so all that is asked of clocks is their rate: no two differ by more than one part in
fifty (`MAX_DRIFT` each). That is some hundred times what a clock without any time service is off.

The holder counts from before it asked the provider, and leaves out what drift may cost; everybody else counts from
after he first saw the grant, and in full. So the holder has always stopped when the first other may begin:
`ttl (1 - 2 d) / (1 - d) <= ttl / (1 + d)`."""

from typing import Final

MAX_DRIFT: Final = 0.01
"""How far the rate of a node's monotonic clock may be off, as a part of one."""
RENEWALS: Final = 3
"""So many renewals fit into a lease: two may fail before it is lost."""
STALL_S: Final = 1.0
"""A heartbeat. Who was not awake for longer asks the provider before the next write."""


def good_until_s(*, asked_at_s: float, ttl_s: float) -> float:
    """Until when a grant that was asked for at that moment may be used by its holder."""
    return asked_at_s + ttl_s * (1 - 2 * MAX_DRIFT)


def renew_at_s(*, asked_at_s: float, ttl_s: float) -> float:
    """When its holder renews it."""
    return asked_at_s + ttl_s / RENEWALS


def has_run_out(*, first_seen_s: float, asked_at_s: float, ttl_s: float) -> bool:
    """Whether a grant that was first seen at the one moment, and is unchanged in an answer to a question asked at the
    other, can be used by its holder no more."""
    return asked_at_s - first_seen_s >= ttl_s


def may_write(*, now_s: float, good_until_s: float, awake_s: float) -> bool:
    """Whether the holder may write now. `awake_s`: when it last looked at its lease, as it does several times a second:
    after a stall the clock itself is not to be trusted, and the provider is asked first."""
    return now_s < good_until_s and now_s - awake_s <= STALL_S
