"""What becomes of a write when another node follows the one that wrote it."""

from replication.engine.epochs import Epoch, epoch_site
from replication.engine.stamps import Stamp
from replication.primary.fate import Fate, fate_of

FIRST, SECOND, THIRD = (epoch_site(number, str(number) * 19) for number in (1, 2, 3))
WRITE = {FIRST: Stamp(10)}


def test_what_can_be_read_here_before_any_candidate_asked_stays() -> None:
    first = Epoch(site=FIRST)
    assert fate_of(WRITE, is_readable=True, newest=first, asked_for=1) is Fate.STAYS
    assert fate_of(WRITE, is_readable=True, newest=first, asked_for=0) is Fate.STAYS


def test_what_cannot_be_read_here_yet_is_open() -> None:
    assert fate_of(WRITE, is_readable=False, newest=Epoch(site=FIRST), asked_for=1) is None
    assert fate_of(WRITE, is_readable=False, newest=None, asked_for=0) is None


def test_what_came_after_a_candidate_asked_is_open_until_its_epoch_began() -> None:
    assert fate_of(WRITE, is_readable=True, newest=Epoch(site=FIRST), asked_for=2) is None
    with_it = Epoch(site=SECOND, began={FIRST: Stamp(10)})
    assert fate_of(WRITE, is_readable=True, newest=with_it, asked_for=2) is Fate.STAYS


def test_what_an_epoch_began_without_is_lost_though_it_can_be_read_here() -> None:
    without = Epoch(site=SECOND, began={FIRST: Stamp(9)})
    for is_readable in (True, False):
        assert fate_of(WRITE, is_readable=is_readable, newest=without, asked_for=0) is Fate.LOST


def test_what_an_epoch_began_with_is_open_again_once_the_next_candidate_asked() -> None:
    """That one may never have heard of the epoch, if its primary was gone at once."""
    second = Epoch(site=SECOND, began={FIRST: Stamp(10)})
    assert fate_of(WRITE, is_readable=True, newest=second, asked_for=3) is None
    third = Epoch(site=THIRD, began={FIRST: Stamp(10), SECOND: Stamp(11)})
    assert fate_of(WRITE, is_readable=True, newest=third, asked_for=3) is Fate.STAYS
