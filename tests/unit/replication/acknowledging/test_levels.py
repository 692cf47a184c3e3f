"""What each level waits for."""

import pytest

from replication.acknowledging.levels import Ack, is_enough


@pytest.mark.parametrize(
    ("level", "confirmed", "live", "size", "enough"),
    [
        (Ack.LOCAL, "", "bc", 3, True),
        (Ack.ONE, "", "bc", 3, False),
        (Ack.ONE, "b", "bc", 3, True),
        (Ack.QUORUM, "", "bc", 3, False),
        (Ack.QUORUM, "b", "bc", 3, True),
        (Ack.QUORUM, "b", "bcd", 4, False),
        (Ack.QUORUM, "bc", "bcd", 4, True),
        (Ack.QUORUM, "b", "bcde", 5, False),
        (Ack.QUORUM, "bc", "bcde", 5, True),
        (Ack.QUORUM, "", "", 1, True),
        (Ack.QUORUM, "", "", 2, False),
        (Ack.QUORUM, "b", "b", 2, True),
        (Ack.ALL, "b", "bc", 3, False),
        (Ack.ALL, "bc", "bc", 3, True),
        (Ack.ALL, "b", "b", 3, True),
        (Ack.ALL, "", "", 3, True),
    ],
)
def test_a_write_is_acknowledged_when_enough_nodes_have_it(
    level: Ack, confirmed: str, live: str, size: int, enough: bool
) -> None:
    assert is_enough(level, confirmed=list(confirmed), live=list(live), size=size) is enough
