"""What all parts of one simulation share: the loop, the network, what is random, and what is written down."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

from cluster.address import Address
from cluster.memory import MemoryNetwork
from replication.simulation.loop import VirtualLoop
from replication.simulation.network import Climate, SeededWeather

EPOCH_MS: Final = 1_700_000_000_000
"""What the right time is when a simulation begins."""
_PORT: Final = 7400
TRIMS: Final = 0.3
"""So many of the seeds trim."""


class World:
    """See the module. Made inside the running loop."""

    def __init__(self, seed: int, loop: VirtualLoop, climate: Climate, *, traced: bool = False) -> None:
        self.seed = seed
        self.loop = loop
        self.climate = climate
        self.reached: Counter[str] = Counter()
        """How often each fault, and each path of the protocol, was there, by its name."""
        self.trace: list[str] = []
        self.wrong: list[str] = []
        """What was found while it ran."""
        self.weather = SeededWeather(climate, self.stream("weather"), self.note)
        self.network = MemoryNetwork(self.weather)
        self.addresses: list[Address] = []
        """Where machines are, or were."""
        self.may_fork = False
        """Something was done after which two histories of one site can be told apart no other way."""
        self.was_restored = False
        """Something older or something else was put in the place of a database, or a copy was used."""
        self.was_ahead_alone = False
        """A machine's clock was far ahead while it heard nobody."""
        self.trims = self.stream("trims").random() < TRIMS
        """Journals and tombstones are trimmed soon, so that who was away gets a snapshot."""
        self.folder: Path | None = None
        """For real files, if this seed has any: copies of databases on their way."""
        self._traced = traced

    def stream(self, name: str) -> Random:
        """Random numbers for one purpose: what one part draws does not change what another gets."""
        return Random(f"{self.seed}/{name}")

    def new_address(self) -> Address:
        """Where one more machine is."""
        self.addresses.append(Address(f"10.0.0.{len(self.addresses) + 1}", _PORT))
        return self.addresses[-1]

    def true_ms(self) -> int:
        """What a right clock shows."""
        return EPOCH_MS + int(self.loop.time() * 1000)

    def note(self, what: str) -> None:
        """Something was reached."""
        self.reached[what] += 1

    def say(self, who: str, what: object) -> None:
        """A line of the trace."""
        if self._traced:
            self.trace.append(f"{self.loop.time():9.4f} {who:6} {what}")

    def fail(self, what: str) -> None:
        """Something is wrong."""
        self.say("WRONG", what)
        self.wrong.append(what)
