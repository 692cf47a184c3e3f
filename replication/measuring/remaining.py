"""The members that are compared: all that a node knows, without those that are forgotten."""

from collections.abc import Callable, Mapping, Sequence

from replication.measuring.looking import Cluster, Member


class Remaining:
    """A node, for who compares. `forgotten`: names, and where they were reached."""

    def __init__(self, node: Cluster, forgotten: Callable[[], Mapping[str, str]]) -> None:
        self._node = node
        self._forgotten = forgotten

    @property
    def name(self) -> str:
        """The node's."""
        return self._node.name

    def members(self) -> Sequence[Member]:
        """All that are known, live or not."""
        forgotten = self._forgotten()
        gone = {*forgotten, *forgotten.values()}
        return [member for member in self._node.members() if (member.name or str(member.address)) not in gone]

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object:
        """Ask, and wait for the answer. Raises a CallError."""
        return await self._node.call(node, actor, message, timeout_s=timeout_s)
