"""Five regions, and how long a packet takes between them and back. Pure."""

from typing import Final

REGIONS: Final = ("ord", "atl", "ams", "nrt", "syd")
"""Chicago, Atlanta, Amsterdam, Tokyo, Sydney."""

_ROUND_TRIPS_MS: Final = {
    frozenset(("ord", "atl")): 20.0,
    frozenset(("ord", "ams")): 95.0,
    frozenset(("ord", "nrt")): 145.0,
    frozenset(("ord", "syd")): 195.0,
    frozenset(("atl", "ams")): 100.0,
    frozenset(("atl", "nrt")): 160.0,
    frozenset(("atl", "syd")): 200.0,
    frozenset(("ams", "nrt")): 235.0,
    frozenset(("ams", "syd")): 270.0,
    frozenset(("nrt", "syd")): 110.0,
}
"""What is usual between data centres there, over the open internet; by cable length alone it would be two thirds."""


def round_trip_s(one: str, other: str) -> float:
    """Between two regions; none within one."""
    return 0.0 if one == other else _ROUND_TRIPS_MS[frozenset((one, other))] / 1000
