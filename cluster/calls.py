"""Calls that wait for their answer."""

import asyncio

from cluster.errors import CallTimeout, Gone, NodeDown, NoSuchActor


class PendingCalls:
    """From call id to the future that waits. Ids are never used twice, so that a late answer finds nobody."""

    def __init__(self) -> None:
        self._next_id = 1
        self._pending: dict[int, tuple[str, str, asyncio.Future[object]]] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._pending)

    def open(self, node: str, actor: str) -> tuple[int, asyncio.Future[object]]:
        """A new call: its id and the future of its answer."""
        call_id, self._next_id = self._next_id, self._next_id + 1
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._pending[call_id] = (node, actor, future)
        return call_id, future

    def close(self, call_id: int) -> None:
        """Nobody waits any more."""
        self._pending.pop(call_id, None)

    def answered(self, node: str, call_id: int, value: object) -> bool:
        """`node` answered. False: nobody waits for that, or it was not asked."""
        future = self._take(node, call_id)
        if future is None:
            return False
        future[1].set_result(value)
        return True

    def failed(self, node: str, call_id: int, reason: Gone) -> bool:
        """`node` said that nobody will answer. False as above."""
        future = self._take(node, call_id)
        if future is None:
            return False
        future[1].set_exception(NoSuchActor(node, future[0], reason))
        return True

    def node_down(self, node: str) -> None:
        """End every call to `node` with NodeDown."""
        for call_id, (asked, actor, future) in list(self._pending.items()):
            if asked == node:
                del self._pending[call_id]
                if not future.done():
                    future.set_exception(NodeDown(node, actor))

    def timed_out(self, call_id: int, timeout_s: float) -> None:
        """End a call with CallTimeout, unless it has ended."""
        entry = self._pending.get(call_id)
        if entry is not None and not entry[2].done():
            node, actor, future = entry
            future.set_exception(CallTimeout(node, actor, timeout_s))

    def _take(self, node: str, call_id: int) -> tuple[str, asyncio.Future[object]] | None:
        entry = self._pending.get(call_id)
        if entry is None or entry[0] != node or entry[2].done():
            return None
        del self._pending[call_id]
        return entry[1], entry[2]
