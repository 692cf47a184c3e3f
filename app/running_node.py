"""A node that is up, as a program has it that runs one in its own process."""

from dataclasses import dataclass
from typing import Any

from cluster.node import Node
from replication.convergent.replication import Replication
from replication.primary.rpc import TIMEOUT_S, Function, Functions
from replication.repo import Repo


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """The parts of a node that is up, and functions that nodes run for each other (see `replication.primary.rpc`)."""

    node: Node
    repo: Repo
    url: str
    replication: Replication | None
    functions: Functions

    def rpc[F: Function](self, function: F) -> F:
        """`@node.rpc`: other nodes may have it run here, under its name. Every node registers the same."""
        return self.functions.register(function)

    async def rpc_primary(self, function: Function | str, *arguments: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """What the function returns, run once, on the primary. Raises NobodyWrites, NoPrimary, NoSuchFunction,
        RpcFailed, CannotTravel, OutcomeUnknown."""
        return await self.functions.on_primary(function, *arguments, timeout_s=timeout_s, visible_s=None)

    async def rpc_and_wait(
        self,
        function: Function | str,
        *arguments: Any,
        timeout_s: float = TIMEOUT_S,
        visible_s: float = TIMEOUT_S,
    ) -> Any:
        """As `rpc_primary`, once all that it wrote can be read here. Raises NotVisibleYet as well, with the result."""
        return await self.functions.on_primary(function, *arguments, timeout_s=timeout_s, visible_s=visible_s)

    async def rpc_region(
        self, region: str, function: Function | str, *arguments: Any, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """What the function returns, run once, on a node of that region: here, if this is one. Raises NobodyThere,
        NoSuchFunction, RpcFailed, CannotTravel, OutcomeUnknown."""
        return await self.functions.in_region(region, function, *arguments, timeout_s=timeout_s)
