"""What can go wrong with the bucket, in seeds that have one; and what is asked of it meanwhile."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from replication.backup.names import snapshots_in
from replication.simulation.backed_up import BackedUp
from replication.simulation.faults import Fault, later

if TYPE_CHECKING:
    from replication.simulation.scenario import Scenario

SHARE: Final = 0.2
"""So many of the seeds have a bucket."""


def _for_a_while(attribute: str, values: tuple[object, ...], most_s: float) -> Callable[["Scenario"], None]:
    """The store is so, and some time later it is as it was."""

    def do(scenario: "Scenario") -> None:
        store = _of(scenario).store
        before, now = getattr(store, attribute), scenario.random.choice(values)
        if before:
            return
        setattr(store, attribute, now)
        scenario.world.say("fault", f"bucket: {attribute} = {now}")
        later(scenario, most_s, lambda: setattr(store, attribute, before))

    return do


def _refuse(scenario: "Scenario") -> None:
    """A machine's credentials are wrong, and are set right."""
    store, name = _of(scenario).store, scenario.random.choice(scenario.members).name
    store.refuses.add(name)
    scenario.world.say("fault", f"{name} has wrong credentials")
    later(scenario, 12.0, lambda: store.refuses.discard(name))


def _restore(scenario: "Scenario") -> None:
    _of(scenario).begin_restore(lambda: [machine.disk.connect() for machine in scenario.machines])


def _lose_all(scenario: "Scenario") -> None:
    """All machines at once, with their disks. They come back, each in its time."""
    scenario.lose_all_disks()


def _of(scenario: "Scenario") -> BackedUp:
    assert scenario.backed_up is not None, "the seed has a bucket"
    return scenario.backed_up


def _may_be_lost(scenario: "Scenario") -> bool:
    """Not where nothing could come back, or not all that is there."""
    store = _of(scenario).store
    return bool(snapshots_in(store.objects)) and not store.lists_after_s and not scenario.has_lost_all


LISTS_LATE: Final = Fault(
    name="bucket lists late",
    do=_for_a_while("lists_after_s", (1.0, 4.0, 10.0), 15.0),
    is_possible=lambda scenario: not scenario.has_lost_all,
)
TOTAL_LOSS: Final = Fault(name="total loss", do=_lose_all, is_possible=_may_be_lost, share=0.4, weight=4)
NOT_WITH_TOTAL_LOSS: Final = frozenset(
    {"restore under the node", "restore", "restore several", "copy beside", "clock far ahead, alone"}
)
"""Where copies are used that nobody knows as such yet, nobody knows under which site an op was told to be safe. And
what a clock far ahead stamped before anybody saw it is in the bucket: restored everywhere, it drives all clocks."""
BUCKET_FAULTS: Final = (
    Fault(name="bucket down", do=_for_a_while("is_down", (True,), 20.0), share=0.5),
    Fault(name="bucket slow", do=_for_a_while("slow_s", (0.3, 1.5), 10.0)),
    Fault(name="bucket throttles", do=_for_a_while("throttles", (0.3, 0.9), 10.0)),
    Fault(name="bucket loses answers", do=_for_a_while("loses_answers", (0.2, 0.7), 10.0), share=0.5),
    Fault(name="bucket does it twice", do=_for_a_while("does_twice", (0.3, 1.0), 10.0)),
    Fault(name="bucket spoils answers", do=_for_a_while("spoils", (0.2, 0.7), 8.0)),
    LISTS_LATE,
    Fault(name="wrong credentials", do=_refuse, is_possible=lambda scenario: bool(scenario.members)),
    Fault(name="somebody restores", do=_restore, is_possible=lambda _: True, share=1.0, weight=1.5),
    TOTAL_LOSS,
)
