"""When the bucket lacks something of a site."""

import pytest

from replication.backup.status import SiteStatus
from replication.engine.stamps import Stamp


@pytest.mark.parametrize(
    ("durable", "restorable", "is_lacking"),
    [(7, None, True), (7, 6, True), (7, 7, False), (7, 9, False), (None, None, False), (None, 9, False)],
)
def test_a_site_is_lacking_where_a_restore_would_bring_less_than_is_here(
    durable: int | None, restorable: int | None, is_lacking: bool
) -> None:
    site = SiteStatus(durable=_stamp(durable), uploaded=None, restorable=_stamp(restorable))
    assert site.is_lacking == is_lacking


def _stamp(number: int | None) -> Stamp | None:
    return None if number is None else Stamp(number)
