"""On Fly, the machine's metadata says which role its node has, and in which epoch, as `fly machine status` shows it.

For people to look at; nothing depends on it.

The Machines API is reached through a socket that every machine has, without a token. It answers 429 to who asks too
often, so that a change is told once, and tried again after a while."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from cluster.seldom import SeldomLog
from replication.primary.standing import RoleStatus

log = logging.getLogger(__name__)

SOCKET: Final = Path("/.fly/api")
LOOK_S: Final = 1.0
TRY_AGAIN_S: Final = 5.0
TIMEOUT_S: Final = 2.0


class Leading(Protocol):
    """Who knows the role."""

    def status(self) -> RoleStatus: ...


class FlyMetadata:
    """Tells role and epoch of this machine. `start` in the event loop; `stop` tells a last time what they are then."""

    def __init__(self, leading: Leading, *, app: str, machine: str, socket: Path = SOCKET) -> None:
        self._leading = leading
        self._socket = socket
        self._path = f"http://localhost/v1/apps/{app}/machines/{machine}/metadata"
        self._told: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._seldom: SeldomLog | None = None

    def start(self) -> None:
        """Begins."""
        self._seldom = SeldomLog(log, asyncio.get_running_loop().time)
        self._task = asyncio.create_task(self._go_on(), name="metadata of the machine")

    async def stop(self) -> None:
        """Takes two seconds at most."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await self._tell()

    async def _go_on(self) -> None:
        while True:
            is_told = await self._tell()
            await asyncio.sleep(LOOK_S if is_told else TRY_AGAIN_S)

    async def _tell(self) -> bool:
        """Tells what is not told yet; whether all is."""
        status = self._leading.status()
        new = {"role": status.role.value, "epoch": str(status.epoch)}
        if new == self._told:
            return True
        import httpx  # a node elsewhere than on Fly does without

        try:
            async with httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=str(self._socket)), timeout=TIMEOUT_S
            ) as client:
                for key, value in new.items():
                    if self._told.get(key) != value:
                        answer = await client.post(f"{self._path}/{key}", json={"value": value})
                        answer.raise_for_status()
                        self._told[key] = value
        except httpx.HTTPError as error:
            if self._seldom is not None:
                self._seldom.warning("metadata", f"the machine's metadata cannot be written ({self._socket}): {error}")
            return False
        return True


def fly_metadata(environ: Mapping[str, str], leading: Leading) -> FlyMetadata | None:
    """For the machine that this environment is of; None elsewhere than on Fly."""
    app, machine = environ.get("FLY_APP_NAME"), environ.get("FLY_MACHINE_ID")
    return FlyMetadata(leading, app=app, machine=machine) if app and machine and SOCKET.exists() else None
