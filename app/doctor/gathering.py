"""Gathering what the doctor judges. Reads only: it opens the database read-only, asks the node, knocks at addresses."""

import contextlib
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from app.config import Config, ConfigError, Mode, load_config
from app.doctor.facts import DatabaseFacts, Facts, MachineFacts, NodeFacts, SettingsFacts
from app.errors import NodeUnreachable
from app.node_client import ask_node, url_of
from cluster.address import Address
from cluster.discovery import Method
from cluster.security import is_readable_by_others
from replication.engine import catalogue, state
from replication.engine.capture import is_complete
from replication.engine.closing import branches as branch_tips
from replication.engine.sites import closed
from replication.engine.stamps import ms_of
from replication.engine.transacting import reading

BUSY_TIMEOUT_S: Final = 5.0
KNOCK_TIMEOUT_S: Final = 1.0
KNOCKS_MAX: Final = 20
ORPHANS_MAX: Final = 10_000
"""So many rows without a parent are counted."""
NOT_REPLICATED: Final = "not replicated: "


def facts_of_database(path: Path) -> Facts:
    """Of a database file alone."""
    return Facts(machine=_machine(), database=_database(path))


def facts_of_config(file: Path | None) -> Facts:
    """Of a node by its settings; None: those of the environment. What keeps the settings from being used is a fact."""
    try:
        # The counter's table is not looked for: `litecast node` makes and attaches it, and `litecast run` has none.
        config = load_config(file, os.environ, own_tables=())
    except ConfigError as error:
        return Facts(machine=_machine(), settings_problem=str(error))
    node = _node(config)
    return Facts(
        machine=_machine(),
        database=None if config.node.slots_dir is not None else _database(config.database.path),
        settings=_settings(config),
        node=node,
        found=_found(config) if node is None else None,
    )


def _machine() -> MachineFacts:
    major, minor, patch = sqlite3.sqlite_version_info
    return MachineFacts(sqlite_version=(major, minor, patch), now_ms=time.time_ns() // 1_000_000)


def _settings(config: Config) -> SettingsFacts:
    secret, file = config.bus.secret, config.bus.secret_file
    return SettingsFacts(
        mode=config.replication.mode.value,
        cluster=config.cluster.name,
        synchronous=config.database.synchronous.value,
        beyond_loopback=not config.bus.bind.is_loopback,
        secret_variety=None if secret is None else len(set(secret.reveal())),
        secret_file=file,
        secret_file_open=file is not None and is_readable_by_others(file),
        discovery=config.discovery.method.value,
        clock_bound_ms=int(config.replication.clock_bound_s * 1000),
        journal_max_bytes=config.replication.journal_max_bytes,
        declared=tuple(table.name for table in config.replication.tables),
        warnings=config.warnings,
    )


# --- the database ---


def _database(path: Path) -> DatabaseFacts:
    free_bytes = _free_bytes(path.parent)
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        return DatabaseFacts(path=path, exists=False, free_bytes=free_bytes)
    except OSError as error:
        return DatabaseFacts(path=path, exists=True, problem=str(error.strerror), free_bytes=free_bytes)
    if not path.is_file():
        return DatabaseFacts(path=path, exists=True, problem="it is not a plain file", free_bytes=free_bytes)
    known: dict[str, Any] = {
        "path": path,
        "exists": True,
        "size_bytes": size_bytes,
        "free_bytes": free_bytes,
        "wal_bytes": _size(path.with_name(f"{path.name}-wal")),
    }
    try:
        with contextlib.closing(_opened(path)) as connection, reading(connection):
            return DatabaseFacts(**known, **_inside(connection))
    except sqlite3.Error as error:
        return DatabaseFacts(**known, problem=str(error))


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S
    )


def _inside(connection: sqlite3.Connection) -> dict[str, Any]:
    (mode,) = connection.execute("PRAGMA main.journal_mode").fetchone()
    found: dict[str, Any] = {"journal_mode": mode, "orphans": _orphans(connection)}
    standing = state.read(connection)
    if standing is None:
        return found
    if standing.format > state.NEWEST_FORMAT:
        return found | {"newer_format": standing.format}
    specs = catalogue.load(connection)
    present = {spec.tid for spec in specs.values()}
    known = connection.execute(f"SELECT tid, name FROM main.{catalogue.CATALOGUE}").fetchall()
    branches = closed(connection) if standing.format >= state.NEWEST_FORMAT else {}
    return found | {
        "attached": tuple(specs),
        "attached_for": (Mode.PRIMARY if catalogue.is_one_writer(connection) else Mode.CONVERGENT).value,
        "cluster": standing.cluster,
        "gone": tuple(name for tid, name in known if tid not in present),
        "uncaptured": tuple(name for name, spec in specs.items() if not is_complete(connection, spec)),
        "held": tuple(
            connection.execute(
                "SELECT reason, count(*) FROM main._litecast_held GROUP BY reason ORDER BY count(*) DESC, reason"
            ).fetchall()
        ),
        "waiting_tables": tuple(_waiting(connection, specs)),
        "forked_sites": sum(len(branch_tips(tips)) > 1 for tips in branches.values()),
        "set_aside": standing.site in branches,
        "sites": _number(connection, "SELECT count(*) FROM main._litecast_sites"),
        "pending": sum(_number(connection, f"SELECT count(*) FROM main.{spec.log}") for spec in specs.values()),
        "journal_bytes": _number(connection, "SELECT coalesce(sum(length(bytes)), 0) FROM main._litecast_journal"),
        "stamped_ms": ms_of(standing.clock),
    }


def _waiting(connection: sqlite3.Connection, attached: object) -> Iterator[str]:
    rows = connection.execute("SELECT DISTINCT name FROM main._litecast_held_tables ORDER BY name").fetchall()
    return (name for (name,) in rows if isinstance(attached, dict) and name not in attached)


def _orphans(connection: sqlite3.Connection) -> tuple[tuple[str, int], ...]:
    """By table. A table that refers to one that is not there cannot be checked: that is no row's fault."""
    counts: dict[str, int] = {}
    with contextlib.suppress(sqlite3.OperationalError):
        for found, (table, *_) in enumerate(connection.execute("PRAGMA main.foreign_key_check"), 1):
            counts[table] = counts.get(table, 0) + 1
            if found >= ORPHANS_MAX:
                break
    return tuple(sorted(counts.items()))


def _number(connection: sqlite3.Connection, query: str) -> int:
    (number,) = connection.execute(query).fetchone()
    return int(number)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free_bytes(folder: Path) -> int | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


# --- the node, and who can be found without it ---


def _node(config: Config) -> NodeFacts | None:
    try:
        report = ask_node(url_of(config.http.bind)).cluster
    except NodeUnreachable:
        return None
    if report["node"]["name"] != config.node.name and config.node.slots_dir is None:
        return None  # another node on this machine
    peers, standing = report["peers"], report.get("replication") or {}
    backup = standing.get("backup") or {}
    notes = [str(note) for note in standing.get("notes", [])]
    return NodeFacts(
        peers_up=sum(peer.get("state") == "up" for peer in peers),
        peers_known=len(peers),
        problem=str(standing.get("problem", "")),
        refused=tuple(note.removeprefix(NOT_REPLICATED) for note in notes if note.startswith(NOT_REPLICATED)),
        backup_problem=str(backup.get("problem", "")),
        backup_journal_used=float(backup.get("journal_used", 0.0)),
    )


def _found(config: Config) -> tuple[int, int] | None:
    """How many addresses discovery gives, besides the own one, and how many answer. None where that cannot be told."""
    found = config.discovery
    if found.method is Method.STATIC:
        addresses: Sequence[Address] = [
            address for address in found.peers if address not in (config.bus.bind, config.bus.advertise)
        ]
    elif found.method is Method.DNS and found.dns_name is not None:
        addresses = _looked_up(found.dns_name, found.dns_port)
    else:
        return None
    return len(addresses), sum(map(_answers, addresses[:KNOCKS_MAX]))


def _looked_up(name: str, port: int) -> Sequence[Address]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [Address(str(host), port) for host in {where[0] for *_, where in found}]


def _answers(address: Address) -> bool:
    try:
        with socket.create_connection((address.host, address.port), timeout=KNOCK_TIMEOUT_S):
            return True
    except OSError:
        return False
