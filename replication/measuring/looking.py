"""Who is asked, and what all say at a glance."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from replication.engine.stamps import Site, Stamp
from replication.measuring.asking import Bus, Unanswered, ask_one
from replication.measuring.questions import AskLook, Look


class Member(Protocol):
    """A node or address as this node knows it; the name is None until it said who it is."""

    @property
    def name(self) -> str | None: ...
    @property
    def address(self) -> object: ...
    @property
    def state(self) -> str: ...


class Cluster(Bus, Protocol):
    """What comparing nodes needs of `cluster.Node`."""

    @property
    def name(self) -> str: ...

    def members(self) -> Sequence[Member]:
        """All that are known, live or not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What all members say, and why some say nothing."""

    nodes: Mapping[str, Look]
    lost: Mapping[str, str]

    @property
    def marks(self) -> object:
        """Another one once anything was committed on any of them, or one came or went."""
        return {name: look.mark for name, look in self.nodes.items()}, dict(self.lost)

    @property
    def covered(self) -> dict[Site, Stamp]:
        """How far each site is merged everywhere."""
        vectors = [look.vector for look in self.nodes.values()]
        everywhere = set(vectors[0]).intersection(*vectors) if vectors else set[Site]()
        return {site: Stamp(min(vector[site] for vector in vectors)) for site in everywhere}


async def look_at_all(node: Cluster, *, until_s: float) -> Looks:
    """Asks every member that this node knows, itself among them."""
    asked, lost = asked_and_lost(node)
    found, silent = await from_all(asked, lambda name: ask_one(node, name, AskLook(), Look.parse, until_s=until_s))
    return Looks(nodes=found, lost=lost | silent)


def asked_and_lost(node: Cluster) -> tuple[list[str], dict[str, str]]:
    """The members that can be asked, this node first, and why the others cannot."""
    lost: dict[str, str] = {}
    asked = [node.name]
    for member in node.members():
        if member.name is None:
            lost[str(member.address)] = "nobody has answered there yet"
        elif member.name == node.name:
            continue
        elif member.state in ("up", "suspect"):
            asked.append(member.name)
        else:
            lost[member.name] = "it is down" if member.state == "down" else "it is not up yet"
    return asked, lost


async def from_all[T](nodes: Iterable[str], one: Callable[[str], Awaitable[T]]) -> tuple[dict[str, T], dict[str, str]]:
    """Asks these nodes at the same time: what each said, and why some said nothing."""
    found: dict[str, T] = {}
    silent: dict[str, str] = {}

    async def ask_one(name: str) -> None:
        try:
            found[name] = await one(name)
        except Unanswered as exc:
            silent[name] = str(exc)

    names = list(nodes)
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(ask_one(name))
    return {name: found[name] for name in names if name in found}, silent
