"""What a run gave: a table for people, an object for programs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.table import Table

_MICROSECONDS_BELOW_MS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One region's medians, in milliseconds. `round_trip_ms`: to the primary's region, as injected."""

    name: str
    round_trip_ms: float
    local_read_ms: float
    remote_read_ms: float
    write_ms: float
    write_visible_ms: float


def table(regions: Sequence[Region], *, primary: str) -> Table:
    """One line a region, the primary's first."""
    drawn = Table(box=box.SIMPLE_HEAD, title=f"The primary is in {primary}; medians, measured on this machine")
    for heading in (
        "region",
        f"round trip to {primary} (injected)",
        "read, local file",
        f"read, from {primary}",
        "write, not waiting",
        "write, until readable here",
    ):
        drawn.add_column(heading, justify="left" if heading == "region" else "right")
    for one in regions:
        drawn.add_row(
            one.name + (" (primary)" if one.name == primary else ""),
            f"{one.round_trip_ms:.0f} ms",
            *map(_shown, (one.local_read_ms, one.remote_read_ms, one.write_ms, one.write_visible_ms)),
        )
    return drawn


def _shown(milliseconds: float) -> str:
    if milliseconds < _MICROSECONDS_BELOW_MS:
        return f"{milliseconds * 1000:.0f} µs"
    return f"{milliseconds:.1f} ms"


def as_json(regions: Sequence[Region], *, primary: str) -> dict[str, Any]:
    """`{"primary": ..., "regions": [{"region": ..., "round_trip_ms": ..., ...}]}`."""
    return {
        "primary": primary,
        "regions": [
            {
                "region": one.name,
                "round_trip_ms": one.round_trip_ms,
                "local_read_ms": one.local_read_ms,
                "remote_read_ms": one.remote_read_ms,
                "write_ms": one.write_ms,
                "write_visible_ms": one.write_visible_ms,
            }
            for one in regions
        ],
    }
