"""The nodes of the demo together: started, asked over HTTP, killed, brought back, stopped."""

import asyncio
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from app.config.model import Mode
from app.demo.config_files import NodeFiles, lay_out, write_configs
from app.demo.errors import DemoError
from app.demo.measures import NodeCounters
from app.demo.plan import PlannedNode
from app.demo.processes import STOP_WITHIN_S, NodeProcess

START_WITHIN_S = 40.0  # nine nodes on two slow cores need most of it
ASK_TIMEOUT_S = 5.0
POLL_S = 0.05
BACK_POLL_S = 0.01  # it is a moment that is measured from
PORT_TRIES = 3


class DemoCluster:
    """Node processes in one folder, in one replication mode.

    Whoever makes one calls `stop` or `kill`; no process starts before `start`.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Sequence[PlannedNode],
        client: httpx.AsyncClient,
        mode: str,
        *,
        backup: str | None = None,
    ) -> None:
        """`backup`: the url of the place that the nodes upload to, if any."""
        self.mode = mode
        self._backup = backup
        self._folder = folder
        self._planned = nodes
        self._client = client
        self._nodes: dict[str, NodeProcess] = {}

    @property
    def files(self) -> Mapping[str, NodeFiles]:
        """Where each node lives, by name. Ports change with `start`, folders do not."""
        return {name: process.files for name, process in self._nodes.items()}

    @property
    def running(self) -> list[str]:
        """The nodes whose process runs."""
        return [name for name, process in self._nodes.items() if process.pid is not None]

    async def start(self) -> None:
        """Starts all nodes, on the data they have, and returns when each sees all others up.

        None of them may be running. Raises DemoError if they do not come up.
        """
        self._folder.mkdir(exist_ok=True)
        for attempt in range(1, PORT_TRIES + 1):
            self._nodes = {files.name: NodeProcess(files) for files in lay_out(self._folder, self._planned)}
            write_configs([process.files for process in self._nodes.values()], self.mode, backup=self._backup)
            for process in self._nodes.values():
                process.start()
            try:
                await self._until_complete()
            except DemoError as error:
                await self.stop()
                # Somebody took a port between our look and the node's: that is nobody's fault, so others are tried.
                if attempt == PORT_TRIES or "in use" not in error.log_tail:
                    raise
            else:
                return

    async def kill(self, node: str) -> None:
        """Ends the node as a power cut would."""
        await self._nodes[node].kill()

    def lose_disk(self, node: str) -> None:
        """Removes all that the node has written but its log. It must not be running."""
        files = self._nodes[node].files
        for path in files.folder.iterdir():
            if path == files.log_file:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    async def backup(self, node: str) -> dict[str, Any]:
        """What the node says of its backup; empty if it does not answer, or has none."""
        answer = await self._ask(node) or {}
        found = answer.get("replication", {}).get("backup")
        return found if isinstance(found, dict) else {}

    async def bring_back(self, node: str) -> float:
        """Starts the node again on its data; returns when each sees all others up. Raises DemoError.

        Gives when it was back, as `time.monotonic` has it: when its web application answered for the first time.
        """
        self._nodes[node].start()
        deadline = time.monotonic() + START_WITHIN_S
        while self._nodes[node].exit_status is None and time.monotonic() < deadline:
            if await self._is_ready(node) is not None:
                break
            await asyncio.sleep(BACK_POLL_S)
        back_s = time.monotonic()
        await self._until_complete()
        return back_s

    async def revive(self) -> list[str]:
        """Starts again every node that has ended by itself, and gives their names. Raises DemoError."""
        ended = [name for name, process in self._nodes.items() if process.exit_status is not None]
        for name in ended:
            self._nodes[name].start()
        if ended:
            await self._until_complete()
        return ended

    def last_words(self, node: str) -> str:
        """Why the node has ended: the signal, or the last line of its log."""
        status = self._nodes[node].exit_status
        if status is not None and status < 0:
            return f"it was ended by {signal.Signals(-status).name}"
        return _reason(self._nodes[node].log_tail())

    async def counters(self) -> dict[str, NodeCounters]:
        """The counters of every node that answers."""
        names = self.running
        answers = await asyncio.gather(*(self._ask(name) for name in names))
        return {
            name: NodeCounters(
                incarnation=str(answer["node"]["incarnation"]),
                counters=dict(answer["counters"]),
                replication=dict(answer.get("replication", {}).get("counts", {})),
            )
            for name, answer in zip(names, answers, strict=True)
            if answer is not None
        }

    async def primary(self) -> str | None:
        """The node that writes, in mode primary, as it says itself; None if there is none now."""
        names = self.running
        answers = await asyncio.gather(*(self._ask(name) for name in names))
        roles = (
            (name, (answer or {}).get("replication", {}).get("role"))
            for name, answer in zip(names, answers, strict=True)
        )
        return next((name for name, role in roles if role == "primary"), None)

    async def stop(self, *, hurry: asyncio.Event | None = None) -> None:
        """Ends all nodes in order; whoever takes too long, or all once `hurry` is set, by force. None is left."""
        for process in self._nodes.values():
            process.send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN_S
        while self.running:
            if time.monotonic() >= deadline or (hurry is not None and hurry.is_set()):
                break
            await asyncio.sleep(POLL_S)
        for process in self._nodes.values():
            await process.kill()

    async def _until_complete(self) -> None:
        deadline = time.monotonic() + START_WITHIN_S
        while True:
            for name, process in self._nodes.items():
                if process.exit_status is not None:
                    raise DemoError(
                        f"node {name} did not start: {_reason(process.log_tail())}", log_tail=process.log_tail()
                    )
            missing = await self._missing()
            if missing is None:
                return
            if time.monotonic() >= deadline:
                node, why = missing
                raise DemoError(
                    f"node {node} {why} after {START_WITHIN_S:g} s: is this machine very busy?",
                    log_tail=self._nodes[node].log_tail(),
                )
            await asyncio.sleep(POLL_S)

    async def _missing(self) -> tuple[str, str] | None:
        """A node that is not complete yet, and why; None if all are."""
        for name in self._nodes:
            ready = await self._is_ready(name)
            answer = await self._ask(name) if ready else None
            if ready is False:
                return name, "is not ready"
            if answer is None:
                return name, "does not answer"
            up = {peer["name"] for peer in answer["peers"] if peer["state"] == "up"}
            if self.mode == Mode.PRIMARY and not answer.get("replication", {}).get("primary"):
                return name, "knows of no primary"
            if absent := _first(other for other in self._nodes if other != name and other not in up):
                return name, f"does not see {absent}"
        return None

    async def _is_ready(self, node: str) -> bool | None:
        """What the node says of itself; None if it does not answer."""
        try:
            answer = await self._client.get(f"{self._nodes[node].files.url}/readyz", timeout=ASK_TIMEOUT_S)
        except httpx.HTTPError:
            return None
        return answer.status_code == httpx.codes.OK

    async def _ask(self, node: str) -> dict[str, Any] | None:
        try:
            response = await self._client.get(f"{self._nodes[node].files.url}/api/cluster", timeout=ASK_TIMEOUT_S)
            answer = response.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None


def _first(names: Iterable[str]) -> str | None:
    return next(iter(names), None)


def _reason(log_tail: str) -> str:
    lines = [line for line in log_tail.splitlines() if line.strip()]
    return lines[-1].removeprefix("litecast: ").strip() if lines else "it said nothing"
