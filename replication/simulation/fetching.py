"""A machine without a database, which fetches a copy of a peer's before its node runs for the first time.

If no peer has one, it restores from the bucket, where there is one. The code is the node's own, on real files in a
folder of the simulation's: what was fetched then becomes the disk."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from cluster.node import Node
from replication.backup.errors import BackupDamaged, BackupRefused, BackupUnreachable, NothingToRestore
from replication.backup.restoring import restore
from replication.convergent.first_copy import fetch_first_copy
from replication.engine.stamps import Site
from replication.simulation.application import CLUSTER
from replication.simulation.machine import Everybody, Machine
from replication.simulation.object_store import SimulatedBucket
from replication.simulation.slow_engine import SlowEngine

WAITS_S: Final = 5.0
AGAIN_AFTER_S: Final = 1.0

log = logging.getLogger(__name__)


class Fetching:
    """See the module. `then` is called once the machine has a database; until then it is tried again."""

    def __init__(self, machine: Machine, folder: Path, then: Callable[[], None]) -> None:
        self._machine = machine
        self._path = folder / f"{machine.name}.db"
        self._then = then
        self._tries = 0

    def begin(self) -> None:
        """Begins to fetch."""
        world, machine = self._machine.world, self._machine
        self._tries += 1
        life = world.loop.begin(f"{machine.name} fetches")
        task = life.create_task(self._fetch(), name=f"{machine.name} fetches")

        def ended(task: asyncio.Task[bool]) -> None:
            world.network.kill(machine.address)
            world.network.thaw(machine.address)
            life.end()
            if task.cancelled():
                return
            if error := task.exception():
                log.error("%s", machine.name, exc_info=error)
                world.fail(f"{machine.name} could not fetch a copy: {type(error).__name__}: {error}")
            elif task.result():
                self._put_in_place()
            else:
                machine.say("no copy came; it tries again")
                world.loop.call_later(AGAIN_AFTER_S, self.begin, context=world.network.context)

        task.add_done_callback(ended)

    async def _fetch(self) -> bool:
        world, machine = self._machine.world, self._machine
        random = Random(f"{world.seed}/{machine.name}/fetches/{self._tries}")
        node = Node(
            name=machine.name,
            cluster=CLUSTER,
            transport=world.network.transport(machine.address),
            discovery=Everybody(world),
            random=random,
            incarnation=f"{machine.name}.fetches.{self._tries}",
            now_s=lambda: machine.now_ms() / 1000,
        )
        engine = SlowEngine(random, stalls=0.0)

        def new_site() -> Site:
            return Site(f"{random.getrandbits(128):032x}")

        def new_nonce() -> bytes:
            return random.randbytes(16)

        async with node:
            if await fetch_first_copy(
                node, self._path, wait_s=WAITS_S, engine=engine, new_site=new_site, new_nonce=new_nonce
            ):
                world.note("a copy was fetched")
                return True
        if machine.backed_up is None:
            return False
        try:
            await restore(
                SimulatedBucket(machine.backed_up.store, machine.name),
                self._path,
                engine=engine,
                now_ms=machine.now_ms,
                new_site=new_site,
                new_nonce=new_nonce,
                cluster=CLUSTER,
            )
        except (BackupUnreachable, BackupDamaged, BackupRefused, NothingToRestore) as error:
            machine.say(f"could not restore: {error}")
            return False
        world.note("a machine was restored from the bucket")
        return True

    def _put_in_place(self) -> None:
        self._machine.say("has a copy")
        with sqlite3.connect(self._path) as copy:
            self._machine.disk.replace(copy.serialize())
        copy.close()
        self._path.unlink()
        self._then()
