"""What a candidate has to have before it writes: all that any of a majority has.

It asks the members for their heads, until a majority of the configured ones has answered (this node among them), and
fetches and merges whatever any of these has that this node has not."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from cluster.errors import CallError
from replication.convergent.messages import Heads, NotAMessage, parse_heads
from replication.convergent.store import View
from replication.engine.epochs import epoch_of, newest
from replication.engine.stamps import Site, Stamp, ms_of
from replication.positions import Position
from replication.primary.standing import PRIMARY, majority

ASK_TIMEOUT_S: Final = 1.0
ASK_AGAIN_S: Final = 0.5
CATCH_UP_S: Final = 10.0
"""A candidate that has not come so far in this time lets others try."""


class NewerEpoch(Exception):
    """Somebody has written in an epoch that is not older than the candidate's own."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"somebody has written in epoch {epoch} already")
        self.epoch = epoch


class Replication(Protocol):
    """What catching up needs of this node's replication."""

    def view(self) -> View: ...
    def hear_heads(self, peer: str, heads: Heads) -> None: ...
    def before_ms(self) -> int: ...
    async def wait_for(self, position: Position, *, timeout_s: float) -> None: ...


class Named(Protocol):
    """Somebody with a name."""

    @property
    def name(self) -> str: ...


class Cluster(Protocol):
    """What is needed of `cluster.Node`."""

    @property
    def name(self) -> str: ...
    def peers(self) -> Sequence[Named]: ...
    def cast(self, node: str, actor: str, message: object) -> None: ...
    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object: ...


async def ask(cluster: Cluster, peer: str, question: list[object]) -> Heads | None:
    """The heads of a peer; None if it does not answer, or will not, or is fetching state: they say too little then."""
    try:
        answer = await cluster.call(peer, PRIMARY, question, timeout_s=ASK_TIMEOUT_S)
        heads = parse_heads(answer) if isinstance(answer, list) else None
    except (CallError, NotAMessage):
        return None
    return heads if heads is not None and heads.ready else None


async def catch_up(
    replication: Replication, cluster: Cluster, *, size: int, epoch: int, trouble: Callable[[str], None]
) -> None:
    """Returns once this node has all that a majority of `size` nodes has. `trouble` is told what it waits for. `epoch`
    is that of the candidate. Cancelled when it takes too long. Raises NewerEpoch, PositionTimeout."""
    while True:
        heard = await _ask_peers(cluster, epoch)
        needed = majority(size)
        if 1 + len(heard) >= needed:
            break
        trouble(f"{1 + len(heard)} of {size} nodes are there, and {needed} have to be")
        await asyncio.sleep(ASK_AGAIN_S)
    epochs = [epoch_of(site) for heads in heard.values() if (site := newest(heads.vector)) is not None]
    if max(epochs, default=0) >= epoch:
        raise NewerEpoch(max(epochs))
    for peer, heads in heard.items():
        replication.hear_heads(peer, heads)
    await replication.wait_for(_wanted(replication, heard.values()), timeout_s=CATCH_UP_S)


async def _ask_peers(cluster: Cluster, epoch: int) -> dict[str, Heads]:
    names = [peer.name for peer in cluster.peers()]
    answers = await asyncio.gather(*(ask(cluster, name, ["heads", epoch]) for name in names))
    return {name: heads for name, heads in zip(names, answers, strict=True) if heads is not None}


def _wanted(replication: Replication, heard: Iterable[Heads]) -> Position:
    """What any of these has, but for tails, sites of which no head proves anything, and what a clock far ahead
    stamped: nobody merges that before its time comes, and who writes it gives the lease up."""
    view, before_ms = replication.view(), replication.before_ms()
    stamps: dict[Site, Stamp] = {}
    for heads in heard:
        tail = {} if view.epoch is None else view.epoch.tail_of({s: h.stamp for s, h in heads.vector.items()})
        for site, head in heads.vector.items():
            is_sure = site not in view.closed and site not in heads.closed and site not in tail
            if is_sure and ms_of(head.stamp) < before_ms:
                stamps[site] = max(head.stamp, stamps.get(site, head.stamp))
    return Position(stamps)
