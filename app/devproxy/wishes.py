"""Which node a client would like: by Fly's request headers, and by where the client is. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from app.devproxy.pool import Backend

FORCE_INSTANCE: Final = "fly-force-instance-id"
PREFER_INSTANCE: Final = "fly-prefer-instance-id"
FORCE_REGION: Final = "fly-force-region"
PREFER_REGION: Final = "fly-prefer-region"
CLIENT_REGION: Final = "fly-region"
"""Where the request came in, says Fly's proxy. Here a client may say it, so that one laptop can play all regions."""


class BadLatency(ValueError):
    """Not a time between two regions."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Round trips between regions, in seconds, both ways alike; none within a region, nor where none is known."""

    between: Mapping[frozenset[str], float] = field(default_factory=dict[frozenset[str], float])

    def round_trip_s(self, one: str, other: str) -> float:
        """Between two regions."""
        return 0.0 if one == other else self.between.get(frozenset((one, other)), 0.0)


def parse_latency(text: str) -> tuple[frozenset[str], float]:
    """`ams-syd=270`: a round trip between these takes 270 ms. Raises BadLatency."""
    pair, equals, number = text.partition("=")
    one, dash, other = pair.partition("-")
    try:
        milliseconds = float(number)
    except ValueError:
        milliseconds = -1.0
    if not equals or not dash or not one or not other or one == other or not 0 <= milliseconds <= 60_000:
        raise BadLatency(f"{text}: write REGION-REGION=MS, the milliseconds of a round trip, such as ams-syd=270")
    return frozenset((one, other)), milliseconds / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request's headers say of who is to answer. `region`: where the client is, empty if nobody said."""

    region: str
    force_instance: str = ""
    prefer_instance: str = ""
    force_region: str = ""
    prefer_region: str = ""

    def fits(self, backend: Backend) -> bool:
        """Whether a node may answer."""
        if self.force_instance and backend.name != self.force_instance:
            return False
        return not self.force_region or backend.region == self.force_region

    def distance(self, latencies: Latencies) -> Callable[[Backend], tuple[bool, bool, float]]:
        """How far from the wish a node is: smaller is better."""

        def distance_of(backend: Backend) -> tuple[bool, bool, float]:
            near_s = latencies.round_trip_s(self.region, backend.region) if self.region else 0.0
            return (
                bool(self.prefer_instance) and backend.name != self.prefer_instance,
                bool(self.prefer_region) and backend.region != self.prefer_region,
                near_s,
            )

        return distance_of


def wish_of(headers: Mapping[str, str], *, region: str) -> Wish:
    """What these headers ask for. `region`: where clients are that do not say it."""
    return Wish(
        region=headers.get(CLIENT_REGION, region),
        force_instance=headers.get(FORCE_INSTANCE, ""),
        prefer_instance=headers.get(PREFER_INSTANCE, ""),
        force_region=headers.get(FORCE_REGION, ""),
        prefer_region=headers.get(PREFER_REGION, ""),
    )
