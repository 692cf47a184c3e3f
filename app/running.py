"""A whole node from its settings: locks, database, bus, actors, web server, started and stopped in that order.

Whatever can be refused is refused before the node joins the cluster, so that there is no half-started node: the web
port is taken first, then the folder and the database, then the bus listens, the actors start, and last the node begins
to talk. Stopping goes the other way round.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import assert_never

from app.admin_token import admin_token
from app.backing_up import backup_for, bucket_of, first_database, with_backup
from app.beside.doors import DOORS, DoorKeeper
from app.beside.saying import SayingToPrograms
from app.comparing import desk_for, drift_watch
from app.config import Config, Mode
from app.counter import MIGRATIONS, PageCounter
from app.fly_metadata import fly_metadata
from app.leasing import Leased, lease_for
from app.report import ClusterReport, PageReader, PageReport
from app.running_node import RunningNode
from app.standing import StatusOf
from app.web.admin import AdminGate
from app.web.application import WebApp
from app.web.server import WebServer, bind
from app.web.tails import TailsApi
from app.web.writes import StatementsApi
from cluster.address import Address, parse_address
from cluster.counters import Count
from cluster.discovery import Discovery, Method, make_discovery
from cluster.errors import ClusterError
from cluster.node import Node
from cluster.security import derive_curve_keys, derive_token_key
from cluster.seldom import SeldomLog
from cluster.supervisor import ActorChild, Child
from cluster.zeromq import ZeroMqTransport
from replication.acknowledging.confirming import CONFIRMING, Confirming
from replication.acknowledging.levels import Sure
from replication.acknowledging.worker import ConfirmingWorker
from replication.backup.bucket import Bucket
from replication.backup.saying import BACKUP
from replication.backup.uploading import Backup
from replication.backup.worker import BackupWorker
from replication.convergent.asking import REPLICATION
from replication.convergent.engine import ThreadEngine
from replication.convergent.first_copy import fetch_first_copy
from replication.convergent.for_file import new_nonce, replication_for_file, told_to_the_operator
from replication.convergent.replication import Replication
from replication.convergent.worker import ReplicationWorker
from replication.database_file import new_site
from replication.engine.catalogue import CATALOGUE, ONE_WRITER
from replication.errors import DatabaseError
from replication.lock import DataDirLock
from replication.measuring.answering import Desk, Digests
from replication.measuring.questions import DIGESTS
from replication.measuring.repairing import OwnRepair
from replication.middleware.statements import statements_token
from replication.naive import REPO_REPLICATION, RepoReplication, cast_to_peers
from replication.opening import resolved
from replication.positions import Position
from replication.primary.forwarding import WRITES, Timeouts
from replication.primary.mode import PrimaryMode
from replication.primary.rpc import FUNCTIONS, Functions, FunctionsWorker
from replication.primary.standing import fence_message
from replication.repo import Repo

log = logging.getLogger(__name__)


async def run_node(config: Config) -> None:
    """Run a node until SIGTERM or SIGINT. Returns after an orderly stop, also if the node was not up yet.

    Raises what keeps the node from starting (ClusterError, ReplicationError, AppError), and ClusterError if it cannot
    go on: an actor crashed more often than its supervisor allows, or another live node has its name.
    """
    stop, is_up = asyncio.Event(), asyncio.Event()
    life = asyncio.ensure_future(_up_and_down(config, is_up, stop))

    def told_to_stop() -> None:
        # A node that is still coming up may be waiting for a peer's copy for minutes; a second signal is no new one.
        if not stop.is_set() and not is_up.is_set():
            life.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop)
    try:
        error = await life
    except asyncio.CancelledError:
        if not stop.is_set() or is_up.is_set():
            raise
        log.info("a signal came before the node was up")
        error = None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if error is not None:
        raise error
    log.info("stopped")


async def _up_and_down(config: Config, is_up: asyncio.Event, stop: asyncio.Event) -> ClusterError | None:
    """A node's life, until `stop` is set or it cannot go on: then why."""
    async with running_node(config) as running:
        is_up.set()
        error = await _stopped_or_failed(running.node, stop)
        log.info("stopping: %s", "a signal came" if error is None else error)
    return error


async def _stopped_or_failed(node: Node, stop: asyncio.Event) -> ClusterError | None:
    stopped = asyncio.ensure_future(stop.wait())
    failed = asyncio.ensure_future(node.failed())
    try:
        await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
        return failed.result() if failed.done() else None
    finally:
        stopped.cancel()
        failed.cancel()


@asynccontextmanager
async def running_node(
    config: Config, *, counts: bool = True, also_unready: Callable[[], Sequence[str]] = tuple
) -> AsyncIterator[RunningNode]:
    """A node that is up inside the block. Raises as `run_node` does.

    Unless it `counts`, it is without the counter, its pages and its table. `also_unready` is what keeps it from being
    ready beside its own reasons.
    """
    # First: of a url that cannot be used is told before a database is made, opened or attached for nothing.
    leased = lease_for(config) if config.replication.mode is Mode.PRIMARY else None
    bucket = None if config.backup.url is None else bucket_of(config, config.backup.url)
    async with AsyncExitStack() as stack:
        listener = bind(config.http.bind.host, config.http.bind.port)
        stack.callback(listener.close)
        stack.enter_context(DataDirLock.acquire(config.node.data_dir, node=config.node.name))
        await _first_database(config, bucket)
        repo = await stack.enter_async_context(_repo(config))
        if not config.replication.mode.makes_changesets:
            await _look_for_attached(config, repo)
        if counts:
            await repo.migrate(MIGRATIONS)
        replication = await _replication(config, repo, stack)
        primary = _primary(config, repo, replication, leased)
        backup = backup_for(config, replication, bucket)
        if backup is not None:
            stack.push_async_callback(backup.close)
        confirming = _confirming(config, repo, replication, backup)
        desk = desk_for(config)
        stack.push_async_callback(desk.close)
        page_source = repo if counts else None
        status = with_backup(_status(replication, primary), backup)
        functions = Functions(None if primary is None else primary.forwarding, _position_now(primary))
        node = _node(config, repo, replication, confirming, primary, backup, functions, desk, page_source, status)
        if replication is not None:
            desk.repairer = OwnRepair(desk, replication, node, lambda: [peer.name for peer in node.peers()])
        if config.replication.mode is Mode.NAIVE:
            repo.replicator = cast_to_peers(node)
        report = ClusterReport(node, PageReader(page_source, node.counters, status=status))
        drift = drift_watch(config, node, replication)
        web = WebApp(
            node=node,
            counter=PageCounter(repo) if counts else None,
            report=report,
            mode=config.replication.mode,
            unready=lambda: [*_unready(config, node, replication), *also_unready()],
            status=status,
            drift=drift,
            gate=AdminGate(admin_token(config)),
            forget=None if replication is None else replication.forget,
            tails=TailsApi(None if primary is None else primary.tails, repo, AdminGate(admin_token(config))),
            promote=None if primary is None else primary.leading.promote,
            changes=repo,
            statements=_statements(config, repo),
            program="" if config.http.program is None else f"http://{config.http.program.host_and_port}",
            next_change=None if replication is None else lambda: replication.feed.next_move,
        )
        server = WebServer(web, listener)
        _log_start(config, node, server.url)
        await node.start()
        functions.start(node)
        stack.push_async_callback(node.stop)
        stack.push_async_callback(report.close)
        stack.push_async_callback(drift.close)
        if backup is not None:
            stack.push_async_callback(backup.stop)  # after replication, which folds what was written last
        if replication is not None:
            replication.start(node)
            stack.push_async_callback(replication.stop)
        if backup is not None:
            backup.start(node)
        if confirming is not None:
            confirming.start(node)
            stack.push_async_callback(confirming.stop)
        if primary is not None:
            primary.start(node)
            saying = SayingToPrograms(config, node, primary.leading, url=_own_url(server))
            saying.start()
            stack.push_async_callback(saying.stop)
            metadata = fly_metadata(os.environ, primary.leading)
            if metadata is not None:
                metadata.start()
                stack.push_async_callback(metadata.stop)
            stack.push_async_callback(primary.stop)
        await server.start()
        stack.push_async_callback(server.stop)
        yield RunningNode(node=node, repo=repo, url=server.url, replication=replication, functions=functions)


def _repo(config: Config) -> Repo:
    return Repo(
        config.database.path,
        synchronous=config.database.synchronous,
        gives_positions=config.replication.mode.makes_changesets,
    )


async def _look_for_attached(config: Config, repo: Repo) -> None:
    """What naive mode copies to other nodes, capture there would take for counted there, and convergent mode add up. In
    mode none it is only for nothing that writes are noted, or a replica's tables refuse them."""
    there = {row["name"] for row in await repo.all("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if CATALOGUE not in there:
        return
    mode = Mode.PRIMARY if ONE_WRITER in there else Mode.CONVERGENT
    problem = f"has tables that are attached for mode {mode.value}"
    remedy = f'run `litecast detach {repo.path}` first, or set [replication] mode = "{mode.value}"'
    if config.replication.mode is Mode.NAIVE:
        raise DatabaseError(repo.path, f"{problem}, which would count again what naive mode copies", remedy)
    log.warning(
        "the database %s, and in mode %s nobody sends what is written there%s; to end that, stop the node, %s",
        problem,
        config.replication.mode.value,
        ", and a replica's refuse writes" if mode is Mode.PRIMARY else "",
        remedy,
    )


async def _first_database(config: Config, bucket: Bucket | None) -> None:
    """A node whose database does not exist yet takes a copy of a peer's, where there is a peer that has something; else
    what the backup has, where there is one."""
    path = resolved(config.database.path)
    if not config.replication.mode.makes_changesets or path.exists():
        return
    if config.discovery.method is not Method.NONE or bucket is not None:
        log.info("%s", await first_database(config, path, bucket, lambda: _copy_of_a_peer(config, path)))


async def _copy_of_a_peer(config: Config, path: Path) -> bool:
    """Whether there is a peer that has something."""
    if config.discovery.method is Method.NONE:
        return False
    engine = ThreadEngine("litecast first copy")
    try:
        async with _bare_node(config) as node:
            with told_to_the_operator(path, config.node.data_dir):
                return await fetch_first_copy(
                    node,
                    path,
                    wait_s=config.replication.join_timeout_s,
                    engine=engine,
                    new_site=new_site,
                    new_nonce=new_nonce,
                )
    finally:
        await engine.close()


async def _replication(config: Config, repo: Repo, stack: AsyncExitStack) -> Replication | None:
    """What folds and merges, opened, in the modes that do; the repo knows of it."""
    if not config.replication.mode.makes_changesets:
        return None
    replication = replication_for_file(
        resolved(config.database.path),
        cluster=config.cluster.name,
        declared=config.replication.tables,
        data_dir=config.node.data_dir,
        journal_max_age_s=config.replication.journal_max_age_s,
        journal_max_bytes=config.replication.journal_max_bytes,
        clock_bound_ms=int(config.replication.clock_bound_s * 1000),
        join_timeout_s=config.replication.join_timeout_s,
        expects_peers=config.discovery.method is not Method.NONE,
        fence=fence_message(None, config.node.name) if config.replication.mode is Mode.PRIMARY else None,
    )
    stack.push_async_callback(replication.close)
    with told_to_the_operator(resolved(config.database.path), config.node.data_dir):
        await replication.open()
    repo.link = replication
    return replication


def _confirming(
    config: Config, repo: Repo, replication: Replication | None, backup: Backup | None
) -> Confirming | None:
    """Who knows where a write is durable, in the modes in which others have it; the repo asks it from now on."""
    if replication is None:
        return None
    confirming = Confirming(replication, size=config.cluster.size, backup=backup)
    repo.confirmations = confirming
    repo.sure = Sure(level=config.replication.ack, timeout_s=config.replication.ack_timeout_s)
    return confirming


def _primary(config: Config, repo: Repo, replication: Replication | None, leased: Leased | None) -> PrimaryMode | None:
    """What mode primary adds; the repo's writes go where they should from now on. `leased`: in that mode."""
    if leased is None or replication is None:
        return None
    forwarding = config.forwarding
    return PrimaryMode(
        repo,
        replication,
        leased.lease,
        size=config.cluster.size,
        candidate=leased.candidate,
        timeouts=Timeouts(hold_s=forwarding.hold_s, call_s=forwarding.call_s, visible_s=forwarding.visible_s),
        unreplicated_max_s=config.replication.unreplicated_max_s,
    )


def _position_now(primary: PrimaryMode | None) -> Callable[[], Position]:
    return Position if primary is None else primary.position_now


def _own_url(server: WebServer) -> str:
    """Where programs on this machine reach the node's own pages."""
    address = parse_address(server.url.removeprefix("http://"))
    if not address.is_wildcard:
        return server.url
    return f"http://{Address('::1' if ':' in address.host else '127.0.0.1', address.port).host_and_port}"


def _statements(config: Config, repo: Repo) -> StatementsApi | None:
    """What programs beside this node may write by statement, in the mode in which that goes to another node."""
    if config.replication.mode is not Mode.PRIMARY:
        return None
    secret, cluster = config.bus.secret, config.cluster.name
    token = None if secret is None else statements_token(derive_token_key(secret, cluster))
    return StatementsApi(
        repo, AdminGate(token, "the token of programs beside a node: PrimaryStatements takes it from DATABASE-node")
    )


def _status(replication: Replication | None, primary: PrimaryMode | None) -> StatusOf | None:
    """How replication stands, in the modes that have something to say of it."""
    if replication is None:
        return None
    return replication.status if primary is None else primary.status


def _node(
    config: Config,
    repo: Repo,
    replication: Replication | None,
    confirming: Confirming | None,
    primary: PrimaryMode | None,
    backup: Backup | None,
    functions: Functions,
    desk: Desk,
    page_source: Repo | None,
    status: StatusOf | None,
) -> Node:
    children: list[Child] = []
    if replication is not None:
        children.append(ActorChild(REPLICATION, lambda: ReplicationWorker(replication, node)))
    if backup is not None:
        children.append(ActorChild(BACKUP, lambda: BackupWorker(backup, node)))
    if config.replication.mode is Mode.NAIVE:
        children.append(
            ActorChild(
                REPO_REPLICATION,
                lambda: RepoReplication(repo, dropped=lambda: node.counters.increment(Count.BAD_FRAME)),
            )
        )
    clock = asyncio.get_running_loop().time
    if confirming is not None:
        seldom = SeldomLog(logging.getLogger("replication.acknowledging"), clock)
        children.append(ActorChild(CONFIRMING, lambda: ConfirmingWorker(confirming, node, seldom)))
    if primary is not None:
        children += primary.children(lambda: node, clock)
        children.append(ActorChild(DOORS, lambda: DoorKeeper(config.http.program)))
    children.append(ActorChild(FUNCTIONS, lambda: FunctionsWorker(functions)))
    children.append(ActorChild(DIGESTS, lambda: Digests(desk)))
    children.append(
        ActorChild(PageReport.name, lambda: PageReport(PageReader(page_source, node.counters, status=status)))
    )
    node = _bare_node(config, children)
    return node


def _bare_node(config: Config, children: Sequence[Child] = ()) -> Node:
    secret = config.bus.secret
    node = Node(
        name=config.node.name,
        region=config.node.region,
        cluster=config.cluster.name,
        transport=ZeroMqTransport(
            config.bus.bind, keys=None if secret is None else derive_curve_keys(secret, config.cluster.name)
        ),
        advertise=config.bus.advertise,
        discovery=_discovery(config, lambda: node.counters.increment(Count.DISCOVERY_FAILED)),
        children=children,
    )
    return node


def _discovery(config: Config, count_failure: Callable[[], None]) -> Discovery:
    return make_discovery(
        config.discovery.method,
        cluster=config.cluster.name,
        node=config.node.name,
        reached_at=_reached_at(config),
        peers=config.discovery.peers,
        dns_name=config.discovery.dns_name,
        dns_port=config.discovery.dns_port,
        poll_interval_s=config.discovery.poll_interval_s,
        log=logging.getLogger("cluster.discovery"),
        random=Random(),
        count_failure=count_failure,
    )


def _reached_at(config: Config) -> Address:
    return config.bus.advertise or config.bus.bind


def _unready(config: Config, node: Node, replication: Replication | None) -> Sequence[str]:
    reasons: list[str] = []
    if not node.joined:
        reasons.append("the bus has not joined")
    match config.replication.mode:
        case Mode.NAIVE:
            if REPO_REPLICATION not in node.processes:
                reasons.append("the replication actor is not running")
        case Mode.CONVERGENT | Mode.PRIMARY:
            if config.replication.mode is Mode.PRIMARY and WRITES not in node.processes:
                reasons.append("the actor for forwarded writes is not running")
            if replication is None or REPLICATION not in node.processes:
                reasons.append("the replication actor is not running")
            else:
                reasons += replication.unready()
        case Mode.NONE:
            pass
        case mode:
            assert_never(mode)
    return reasons


def _log_start(config: Config, node: Node, url: str) -> None:
    log.info(
        "litecast %s: node %s (%s) of cluster %s, incarnation %s, process %d",
        version("litecast"),
        node.name,
        node.region,
        node.cluster,
        node.incarnation,
        os.getpid(),
    )
    log.info("mode %s, database %s", config.replication.mode, config.database.path)
    log.info("bus %s, %s; peers: %s", config.bus.bind, _guarded(config), node.discovery)
    log.info("web %s, live page %s/cluster", url, url)
    for warning in config.warnings:
        log.warning("%s", warning)


def _guarded(config: Config) -> str:
    return "without a secret" if config.bus.secret is None else "with a secret"
