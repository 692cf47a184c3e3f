"""What is sent, and how a round trip is timed: the same for all contestants."""

from collections.abc import Sequence
from random import Random
from statistics import quantiles

import msgpack

PAYLOAD_BYTES = 199
PAYLOAD = Random(3).randbytes(PAYLOAD_BYTES)


def packed(message: object) -> bytes:
    """As msgpack."""
    body = msgpack.packb(message)
    assert isinstance(body, bytes)
    return body


def percentiles(times_ns: Sequence[int]) -> dict[str, float]:
    """The 50th and the 99th percentile, in microseconds."""
    cuts = quantiles(times_ns, n=100, method="inclusive")
    return {"p50_us": cuts[49] / 1000, "p99_us": cuts[98] / 1000}
