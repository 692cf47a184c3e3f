"""Where a request is answered: a pure decision. The middleware does what comes out, and asks again where it says so.

| request | on the primary | on another node |
|---|---|---|
| a write | here; with a position after it | at the primary; held while there is none, then 503 |
| a read | here | here |
| a read with a position | here, at once | here once the file has reached it, after a moment at the primary |
| a read that prefers another region | in that region, if a node of it is known | the same |

A request that came from another node goes no further, and one that Fly's proxy replayed is not replayed again: loops
end after one step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from replication.epoch_position import EpochPosition
from replication.middleware.node_file import NodeSays, Standing

READ_WAIT_S: Final = 0.5
"""So long is a read held back until the file has come to the client's position."""
HOLD_POLL_S: Final = 0.05
POSITION_POLL_S: Final = 0.002
REPLAY_MAX_BYTES: Final = 1_000_000
"""What Fly's proxy can send again; a larger body is forwarded by the node."""
COME_BACK: Final = "fallback=force_self"
"""Where a request cannot be replayed it comes back, and is held or answered here: the proxy would answer an error."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a request decides. `body_bytes`: None if it does not say how long it is.

    `stays`: it was tried elsewhere in vain, and is to be answered here if it can be. `at_home`: the program brings what
    it writes to the primary itself, and its requests go nowhere."""

    writes: bool
    position: EpochPosition | None = None
    region: str | None = None
    body_bytes: int | None = 0
    was_forwarded: bool = False
    was_replayed: bool = False
    stays: bool = False
    at_home: bool = False


@dataclass(frozen=True, slots=True)
class AnswerHere:
    """The program answers. `is_write`: only while the node may write, which is asked again before the answer goes out,
    and with a position."""

    is_write: bool
    with_position: bool


@dataclass(frozen=True, slots=True)
class Forward:
    """The program of another node answers."""

    node: str
    url: str


@dataclass(frozen=True, slots=True)
class Replay:
    """Fly's proxy is to send the request to somebody else: the value of `fly-replay`."""

    value: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing was done: 503, and why. `to_forwarder`: another node forwarded it, and may look for the primary again."""

    why: str
    to_forwarder: bool = False


type Step = AnswerHere | Forward | Replay | Wait | Refuse


def next_step(
    asked: Asked,
    standing: Standing | None,
    *,
    on_fly: bool,
    waited_s: float,
    has_reached: Callable[[EpochPosition], bool],
    choose: Callable[[Sequence[str]], str],
) -> Step:
    """What to do with a request that has waited so long. `standing`: None where no node ever ran beside the database.
    `choose` picks one of several nodes."""
    if standing is None:
        return AnswerHere(is_write=False, with_position=False)
    if asked.writes and asked.at_home:
        return AnswerHere(is_write=False, with_position=True)
    if asked.writes:
        return _write(asked, standing, on_fly=on_fly, waited_s=waited_s)
    says = standing.says
    must_stay = asked.stays or asked.at_home or asked.was_forwarded
    if not (must_stay or asked.was_replayed) and asked.region not in (None, says.region):
        there = _of_region(asked, says, on_fly=on_fly, choose=choose)
        if there is not None:
            return there
    here = AnswerHere(is_write=False, with_position=asked.position is not None)
    if asked.position is None or standing.may_write or has_reached(asked.position):
        return here
    if waited_s < READ_WAIT_S:
        return Wait(POSITION_POLL_S)
    if must_stay:
        return here
    return _at_primary(asked, says, on_fly=on_fly) or here


def _write(asked: Asked, standing: Standing, *, on_fly: bool, waited_s: float) -> Step:
    if standing.may_write:
        return AnswerHere(is_write=True, with_position=True)
    if asked.was_forwarded:
        return Refuse("this node is not the primary", to_forwarder=True)
    if waited_s < standing.says.hold_s:
        return _at_primary(asked, standing.says, on_fly=on_fly) or Wait(HOLD_POLL_S)
    return Refuse(_why_not(standing))


def _at_primary(asked: Asked, says: NodeSays, *, on_fly: bool) -> Forward | Replay | None:
    if says.primary is None or says.primary == says.node:
        return None
    if on_fly and not asked.was_replayed and _can_be_replayed(asked):
        return Replay(f"instance={says.primary};{COME_BACK}")
    other = says.others.get(says.primary)
    return None if other is None or other.url is None else Forward(says.primary, other.url)


def _of_region(
    asked: Asked, says: NodeSays, *, on_fly: bool, choose: Callable[[Sequence[str]], str]
) -> Forward | Replay | None:
    """None if nobody is known there: what a client asks for leads to known nodes, or nowhere."""
    if on_fly and any(one.region == asked.region for one in says.others.values()):
        return Replay(f"region={asked.region};{COME_BACK}")
    there = {name: one.url for name, one in says.others.items() if one.region == asked.region and one.url is not None}
    if not there:
        return None
    name = choose(sorted(there))
    return Forward(name, there[name])


def _can_be_replayed(asked: Asked) -> bool:
    return asked.body_bytes is not None and asked.body_bytes <= REPLAY_MAX_BYTES


def _why_not(standing: Standing) -> str:
    says = standing.says
    if not standing.is_awake:
        return f"node {says.node}, beside which this program runs, does not run or hangs: start it again"
    if says.primary == says.node:
        return "this node's lease is being renewed"
    if says.primary is None:
        return "there is no primary just now"
    return (
        f"the primary is node {says.primary}, and where its program is reached is not known here: is it up, and does "
        "its [http] program say it?"
    )
