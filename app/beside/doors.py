"""Where the programs of the cluster's nodes are reached: each node says it of its own, and asks the others.

For programs that forward requests (`replication.middleware`). What a peer says is checked before it is believed; where
requests go is decided by nodes, never by a client."""

import asyncio
import logging
from typing import Final

from cluster.actor import Actor
from cluster.address import Address, parse_address
from cluster.errors import AddressError, CallError
from cluster.node import Node

log = logging.getLogger(__name__)

DOORS: Final = "Doors"
"""The actor's name on every node."""
QUESTION: Final = ["where is your program"]
ASK_TIMEOUT_S: Final = 1.0
ASK_AGAIN_S: Final = 2.0
"""After a peer gave no answer: its actors may not have started."""
_TEXT_MAX_CHARS: Final = 300


class DoorKeeper(Actor):
    """Says where this node's program is reached; `program` is None if that is not known, or there is none."""

    name = DOORS

    def __init__(self, program: Address | None) -> None:
        self._program = program

    async def handle_call(self, message: object, sender: str) -> object:
        """A peer asks."""
        if message != QUESTION:
            return ["error", "not a question"]
        return ["at", "" if self._program is None else self._program.host_and_port]


class Doors:
    """What the peers said. `ask` again and again."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._said: dict[str, str | None] = {}
        """By incarnation: a node that comes back may be elsewhere."""
        self._not_before_s: dict[str, float] = {}

    def url_of(self, incarnation: str) -> str | None:
        """Where a peer's program is; None if that is not known."""
        return self._said.get(incarnation)

    async def ask(self) -> None:
        """Asks those that are up and have not said it. Takes a second at most; raises nothing."""
        now_s = asyncio.get_running_loop().time()
        peers = {peer.incarnation: peer.name for peer in self._node.peers()}
        self._said = {one: url for one, url in self._said.items() if one in peers}
        self._not_before_s = {one: at_s for one, at_s in self._not_before_s.items() if one in peers}
        await asyncio.gather(
            *(
                self._ask(incarnation, name)
                for incarnation, name in peers.items()
                if incarnation not in self._said and self._not_before_s.get(incarnation, now_s) <= now_s
            )
        )

    async def _ask(self, incarnation: str, name: str) -> None:
        try:
            answer = await self._node.call(name, DOORS, QUESTION, timeout_s=ASK_TIMEOUT_S)
            self._said[incarnation] = _read(answer)
        except CallError:
            self._not_before_s[incarnation] = asyncio.get_running_loop().time() + ASK_AGAIN_S
        except NotADoor as error:
            log.warning("%s says of its program what cannot be used: %s", name, error)
            self._said[incarnation] = None


class NotADoor(ValueError):
    """A peer sent something that is no address."""


def _read(answer: object) -> str | None:
    match answer:
        case ["at", ""]:
            return None
        case ["at", str(text)] if len(text) <= _TEXT_MAX_CHARS:
            pass
        case _:
            raise NotADoor("not an answer")
    try:
        address = parse_address(text)
    except AddressError as error:
        raise NotADoor(str(error)) from None
    if address.is_wildcard or address.port == 0:
        raise NotADoor(f"{address.host_and_port} is nowhere")
    return f"http://{address.host_and_port}"
