"""What the bus needs from a transport: an inbox that others dial, and connections that we dial.

A connection carries frames to the other's inbox in order, and answers back. It is opened once and never reconnects:
when it is lost, it stays lost, and what was on it may be lost with it. Two implementations pass the same tests:
`zeromq` and `memory`.
"""

from collections.abc import Hashable
from enum import StrEnum
from typing import Protocol

from cluster.address import Address

type Sender = Hashable
"""One link that somebody dialled to our inbox, in the transport's own terms."""


class LostReason(StrEnum):
    """Why a dialled connection is gone."""

    UNREACHABLE = "unreachable"  # nobody listens there, or the name does not resolve
    DISCONNECTED = "disconnected"
    SECRET = "secret"  # the handshake was refused: most likely another secret or another cluster's name


class Connection(Protocol):
    """One connection that we dialled."""

    @property
    def address(self) -> Address:
        """Where it leads."""

    def send(self, frame: bytes) -> bool:
        """Hand over a frame; never blocks. False: it was not taken, since the connection is full or gone."""

    def close(self) -> None:
        """End it. Frames that were handed over may still arrive. `Listener.lost` is not called for it."""


class Listener(Protocol):
    """Who is told what happens. Called in the event loop, one after the other."""

    def opened(self, connection: Connection) -> None:
        """The connection stands; frames can be sent."""

    def lost(self, connection: Connection, reason: LostReason) -> None:
        """The connection could not be made, or ended. Called once at most."""

    def writable(self, connection: Connection) -> None:
        """A connection that refused a frame may take one now."""

    def answered(self, connection: Connection, frame: bytes) -> None:
        """A frame came back on a connection that we dialled."""

    def received(self, sender: Sender, frame: bytes, source_host: str | None) -> None:
        """A frame came to our inbox. `source_host` is the sender's address, as far as it is known."""

    def refused(self, cause: "InboxRefusal", source: str) -> None:
        """Something at our inbox was refused before it became a frame."""


class InboxRefusal(StrEnum):
    """Why the inbox did not let something in."""

    STRANGER = "stranger"
    PARTS = "parts"


class Transport(Protocol):
    """Frames to and from other nodes."""

    async def bind(self) -> Address:
        """Take the address; returns it, with the port that was chosen if port 0 was asked for. Raises BindError."""

    def open(self, listener: Listener) -> None:
        """Begin to tell `listener` what happens, beginning with what came since `bind`."""

    def dial(self, address: Address) -> Connection:
        """Begin to connect; `opened` or `lost` follows."""

    def reply(self, sender: Sender, frame: bytes) -> None:
        """Answer on the connection that brought a frame; dropped if that is gone."""

    async def stop(self) -> None:
        """Close everything; nothing is called afterwards."""
