"""Which node gets the next request: a plain decision, without clock or network.

The pool knows where nodes are, and of each whether it was ready when it was last asked. Requests go round over those
that are. A node at which a connection failed is left out until it says again that it is ready.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from cluster.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A node as the entry knows it. `name` and `region` are empty until the node has told them.

    `program` is where the program beside it is, if that is who gets requests."""

    address: Address
    name: str = ""
    region: str = ""
    ready: bool = False
    program: str = ""

    @property
    def node_url(self) -> str:
        """Where the node itself is asked, without a slash at the end."""
        return f"http://{self.address.host_and_port}"

    @property
    def url(self) -> str:
        """Where requests go, without a slash at the end."""
        return self.program or self.node_url

    @property
    def label(self) -> str:
        """What people call it: its name, or as long as that is unknown its address."""
        return self.name or self.address.host_and_port


class Pool:
    """The nodes behind an entry, and whose turn it is."""

    def __init__(self, addresses: Iterable[Address] = ()) -> None:
        self._backends: dict[Address, Backend] = {}
        self._last: Address | None = None
        self.place(addresses)

    @property
    def backends(self) -> tuple[Backend, ...]:
        """All of them, ready or not, in the order of their turns."""
        return tuple(self._backends.values())

    def place(self, addresses: Iterable[Address]) -> None:
        """From now on nodes are at these addresses and at no others. What is known of those that stay is kept."""
        self._backends = {
            address: self._backends.get(address) or Backend(address=address)
            for address in sorted(set(addresses), key=str)
        }

    def choose(
        self,
        *,
        without: Collection[Address] = (),
        fits: Callable[[Backend], bool] = lambda backend: True,
        distance: Callable[[Backend], Any] = lambda backend: 0,
    ) -> Backend | None:
        """The next node in turn that is ready, fits, is not in `without`, and as near as any; None if there is none."""
        able = {
            address: distance(backend)
            for address, backend in self._backends.items()
            if backend.ready and address not in without and fits(backend)
        }
        nearest = min(able.values(), default=None)
        order = list(self._backends)
        # After the last one chosen, also where that is gone by now: nobody's turn is skipped or doubled by a change.
        start = sum(str(address) <= str(self._last) for address in order) if self._last is not None else 0
        for address in order[start:] + order[:start]:
            if address in able and able[address] == nearest:
                self._last = address
                return self._backends[address]
        return None

    def is_ready(self, address: Address, *, name: str, region: str, program: str = "") -> None:
        """The node at `address` says that it is ready, and who it is."""
        if address in self._backends:  # it may have left while it was being asked
            self._backends[address] = Backend(address=address, name=name, region=region, ready=True, program=program)

    def is_not_ready(self, address: Address) -> None:
        """The node at `address` did not answer, or says that it is not ready: it gets no requests until it is."""
        if address in self._backends:
            self._backends[address] = replace(self._backends[address], ready=False)
