"""Who is a member of the cluster: the nodes that are up, those that were heard, and addresses where one may be.

Whatever needs everybody (trimming a tombstone, forgetting a node, stamping again) asks here who has not been heard."""

from collections.abc import Sequence
from typing import Protocol

from replication.convergent.asking import Bus
from replication.convergent.directory import Directory, Heard
from replication.convergent.exchange import Exchange
from replication.convergent.messages import Heads, Vector
from replication.convergent.store import View
from replication.engine.closing import FORGOTTEN
from replication.engine.stamps import Site
from replication.errors import CannotForget


class Cluster(Bus, Protocol):
    """What replication needs of `cluster.Node`."""

    @property
    def name(self) -> str:
        """This node's."""
        ...

    def peers(self) -> Sequence["Named"]:
        """The peers that are up."""
        ...

    def members(self) -> Sequence["MaybeNamed"]:
        """The nodes and addresses that are known, up or not."""
        ...


class Named(Protocol):
    """Somebody with a name."""

    @property
    def name(self) -> str: ...


class MaybeNamed(Protocol):
    """Somebody who may not have said his name yet."""

    @property
    def name(self) -> str | None: ...

    @property
    def address(self) -> object: ...


class Members:
    """See the module. `view`: how this node's database is now."""

    def __init__(self, exchange: Exchange, directory: Directory, *, expects_peers: bool) -> None:
        self._exchange = exchange
        self._directory = directory
        self._expects_peers = expects_peers
        self._cluster: Cluster | None = None

    def open(self) -> None:
        """Reads what is known from former runs."""
        self._directory.open()

    def start(self, cluster: Cluster) -> None:
        """The node runs."""
        self._cluster = cluster

    def up(self) -> list[str]:
        """Names of the peers that are up."""
        return [] if self._cluster is None else [peer.name for peer in self._cluster.peers()]

    def hear(self, peer: str, heads: Heads) -> None:
        """A peer said under which site it writes."""
        members = () if self._cluster is None else self._cluster.members()
        address = next((str(member.address) for member in members if member.name == peer), "")
        self._directory.hear(peer, Heard(site=heads.site, address=address))

    def silent(self, view: View) -> list[str]:
        """Members that have not said what they have, by name; or by what else is known of them."""
        heads, forgotten = self._exchange.heads(), self.forgotten(view)
        gone = {*forgotten, *forgotten.values()} - heads.keys()
        return [
            member.name or str(member.address)
            for member in (() if self._cluster is None else self._cluster.members())
            if member.name not in heads and (member.name or str(member.address)) not in gone
        ]

    def have_all_spoken(self, view: View) -> bool:
        """Whether there is somebody, and everybody who is known of, up or only by an address, has said what he has."""
        return bool(self._exchange.heads()) and not self.silent(view)

    def vectors(self, view: View) -> list[Vector] | None:
        """What each other member has, as far as it said; None if there is one that has not said it, or may be."""
        heads = self._exchange.heads()
        if (self._expects_peers and not heads) or self.silent(view):
            return None
        return [known.vector for known in heads.values()]

    def earliest_clock_ms(self, now_ms: int) -> int:
        """What the slowest clock showed, of this node and of those that spoke, when they did."""
        return min([now_ms, *(heads.clock_ms for heads in self._exchange.heads().values())])

    def settled_sites(self, view: View) -> list[Site]:
        """Closed sites of which all members merged the branches that this node merged."""
        peers = self._exchange.heads().values()
        return [site for site, tips in view.closed.items() if all(heads.closed.get(site) == tips for heads in peers)]

    def forgotten(self, view: View) -> dict[str, str]:
        """Names of forgotten nodes, and where they were reached."""
        return {name: heard.address for name, heard in self._directory.forgotten(view.closed).items()}

    def sites_to_forget(self, nodes: Sequence[str], view: View) -> list[Site]:
        """The sites of nodes that are gone for good. Raises CannotForget if one may not be forgotten, or not now."""
        up = self._exchange.peers()
        found: list[Heard] = []
        for node in nodes:
            heard = self._directory.get(node)
            if self._cluster is not None and node == self._cluster.name:
                raise CannotForget(f"{node} is this node: stop it, and say so on another one")
            if node in up:
                raise CannotForget(f"{node} is up: stop it first, for good")
            if heard is None or heard.site == view.site:
                known = ", ".join(self._directory.names()) or "none"
                raise CannotForget(f"no node {node} was ever heard here (heard were: {known}): ask another node")
            found.append(heard)
        gone = {*nodes, *(heard.address for heard in found)}
        if away := [name for name in self.silent(view) if name not in gone]:
            raise CannotForget(
                f"{', '.join(away)} cannot be heard, and has to hear of it: wait until it is up, or forget it as well"
            )
        return [heard.site for heard in found]


def was_forgotten(site: Site, view: View) -> bool:
    """Whether the node that wrote under `site` was taken out of the members."""
    return FORGOTTEN in view.closed.get(site, ())
