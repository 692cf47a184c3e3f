"""A node and the program beside it: started in this order, ended in the other, with the program's exit status.

The node starts as `litecast node` does, without the counter. The program is started once the node has caught up:
whoever asks it the first question finds what the cluster knew. From then on signals are passed on to the program and
decide nothing here: it ends, or goes on, as it sees fit, and the node stays up as long as it does, so that the last
thing that it writes is still sent. Only where the node cannot go on is the program ended by us: what it wrote would
reach nobody.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from app.beside.environment import environment_of_program
from app.beside.program import Program
from app.config import Config, Method, Mode
from app.running import running_node
from app.running_node import RunningNode
from cluster.errors import ClusterError
from replication.convergent.caught_up import caught_up

log = logging.getLogger(__name__)

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""While there is no program yet, these end the node."""
PASSED_ON = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)


async def run_beside(config: Config, command: Sequence[str]) -> int:
    """Runs a node and the program beside it until the program ends. Its exit status, or 128 + n if signal n ended it,
    or ended the node before there was a program.

    Raises what keeps the node from starting, as `run_node` does, ProgramNotStarted, and ClusterError if the node cannot
    go on; the program has been ended then.
    """
    program = Program(command)
    told_to_end: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()
    with _signals(program, told_to_end):
        both = asyncio.ensure_future(_node_and_program(config, program))
        told_to_end.add_done_callback(lambda _: both.cancel())
        try:
            status = await both
        except asyncio.CancelledError:
            if not told_to_end.done():
                raise
            log.info("%s came before %s was started", told_to_end.result().name, program.name)
            status = 128 + told_to_end.result()
    log.info("stopped")
    return status


async def _node_and_program(config: Config, program: Program) -> int:
    async with running_node(config, counts=False, also_unready=lambda: _why_not_started(program)) as running:
        failed = asyncio.ensure_future(running.node.failed())
        try:
            await _unless(failed, _ready_for_program(config, running, program.name))
            program.start(
                environment_of_program(
                    os.environ,
                    database=config.database.path,
                    name=config.node.name,
                    region=config.node.region,
                    url=running.url,
                )
            )
            status = await _unless(failed, program.ended())
            log.info("%s has ended with exit status %d", program.name, status)
            return status
        finally:
            if failed.done() and program.is_running:
                log.error("the node cannot go on, and %s is ended with it", program.name)
            failed.cancel()
            await program.stop()


async def _unless[T](failed: asyncio.Future[ClusterError], work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to; raises the node's failure if that is first."""
    working = asyncio.ensure_future(work)
    try:
        first: set[asyncio.Future[Any]] = {failed, working}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise failed.result()
        return working.result()
    finally:
        working.cancel()


async def _ready_for_program(config: Config, running: RunningNode, name: str) -> None:
    if config.replication.mode is Mode.NAIVE:
        log.warning(
            "mode naive sends what is written through Litecast's own Repo, and nothing that %s writes by itself: "
            'set [replication] mode = "convergent" to replicate that',
            name,
        )
    if (
        config.replication.mode is Mode.PRIMARY
        and config.discovery.method is not Method.NONE
        and not config.http.program
    ):
        log.warning(
            "other nodes are not told where %s is reached, and cannot forward requests to it while this node is the "
            "primary: set [http] program",
            name,
        )
    if running.replication is None:
        return
    missing = await caught_up(running.replication, patience_s=config.replication.join_timeout_s)
    if missing:
        log.warning(
            "%s is started before this node has caught up: for %g s nothing has come of what peers have of "
            "%d site(s). It is still asked for",
            name,
            config.replication.join_timeout_s,
            len(missing.stamps),
        )


def _why_not_started(program: Program) -> list[str]:
    return [] if program.is_running else [f"{program.name} is not running"]


@contextmanager
def _signals(program: Program, told_to_end: asyncio.Future[signal.Signals]) -> Iterator[None]:
    """Passes signals on inside the block, and notices children that end. What `nohup` has us ignore stays ignored."""
    loop = asyncio.get_running_loop()

    def came(number: signal.Signals) -> None:
        if program.is_running:
            program.send(number)
        elif number in ENDING and not program.was_started and not told_to_end.done():
            told_to_end.set_result(number)

    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set[signal.Signals]()
    handled = [number for number in PASSED_ON if number not in ignored]
    loop.add_signal_handler(signal.SIGCHLD, program.child_ended)
    for number in handled:
        loop.add_signal_handler(number, came, number)
    try:
        yield
    finally:
        for number in (*handled, signal.SIGCHLD):
            loop.remove_signal_handler(number)
