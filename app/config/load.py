"""Reads a node's settings. Strongest first: `LITECAST_` variables, `DATABASE_PATH`, the file, Fly.io, defaults.

Whatever a person wrote is checked, also where something stronger overrides it: a mistake in a file should not wait for
the day on which the variable is gone.
"""

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.config import table
from app.config.model import (
    BackupConfig,
    BusConfig,
    ClusterConfig,
    Config,
    DatabaseConfig,
    DiscoveryConfig,
    ForwardingConfig,
    HttpConfig,
    LeaseConfig,
    LeaseProvider,
    LogConfig,
    LogFormat,
    LogLevel,
    Mode,
    NodeConfig,
    ReplicationConfig,
)
from app.config.sources import BUS_PORT, Given, Layer, read_database_path, read_environment, read_file, read_fly
from app.config.table import Setting, of_table
from app.counter import DECLARATION
from app.errors import ConfigError
from cluster.address import Address, parse_address
from cluster.discovery import Method
from cluster.errors import SecretError
from cluster.security import Secret, is_readable_by_others, read_secret_file
from replication.acknowledging.levels import Ack
from replication.declared import TableDeclaration
from replication.opening import Synchronous

_DEFAULT_BUS_BIND = f"tcp://127.0.0.1:{BUS_PORT}"
_DEFAULT_HTTP_BIND = "127.0.0.1:8080"
_DEFAULT_POLL_INTERVAL_S = 5.0
_DEFAULT_JOIN_TIMEOUT_S = 2.0
_DEFAULT_CLOCK_BOUND_S = 60.0
_DEFAULT_ACK_TIMEOUT_S = 5.0
_UNREPLICATED_MIN_S = 3.0
"""Nodes say each second how far they are: with less a write a second would be refused on a cluster that is well."""
_DEFAULT_LEASE_TTL_S = 10.0
_DEFAULT_FORWARDING_S = 5.0
_DEFAULT_BACKUP_INTERVAL_S = 1.0
_DEFAULT_SNAPSHOT_INTERVAL_S = 3_600.0
_DEFAULT_RETENTION_S = 7 * 24 * 3_600.0
_DEFAULT_JOURNAL_MAX_AGE_S = 604_800.0  # a week
_DEFAULT_JOURNAL_MAX_BYTES = 2**30


def load_config(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    own_tables: Sequence[TableDeclaration] = (DECLARATION,),
    host_name: Callable[[], str] = socket.gethostname,
) -> Config:
    """The settings that the file (None: no file) and the environment make together, with defaults for the rest.

    `own_tables` are declared without a word: the node's own application's, which a node beside a program has not.
    Reads the file and `bus.secret_file`, and nothing else. Raises ConfigError, one line, for what cannot be used.
    """
    folder = Path.cwd() if path is None else path.absolute().parent
    file = Layer() if path is None else read_file(path)
    known_tables = _with_own(file.tables, own_tables)
    environment = read_environment(environ, tables=known_tables)
    values = _Values(
        stated=(environment, read_database_path(environ), file),
        assumed=read_fly(environ),
        folder=folder,
    )
    name = values.get(table.NODE_NAME) or _node_name(host_name())
    slots_dir = _slots_dir(values)
    data_dir = slots_dir or values.path(table.NODE_DATA_DIR) or folder / "data" / name
    database = None if slots_dir else values.path(table.DATABASE_PATH)
    bind = values.get(table.BUS_BIND) or parse_address(_DEFAULT_BUS_BIND)
    secret, secret_file, warnings = _secret(values, table.BUS_SECRET, table.BUS_SECRET_FILE)
    old_secret, _, old_warnings = _secret(values, table.BACKUP_OLD_SECRET, table.BACKUP_OLD_SECRET_FILE)
    discovery = _discovery(values, bind)
    return Config(
        cluster=ClusterConfig(
            name=values.get(table.CLUSTER_NAME) or "litecast", size=values.get(table.CLUSTER_SIZE) or 1
        ),
        node=NodeConfig(
            name=name, region=values.get(table.NODE_REGION) or "local", data_dir=data_dir, slots_dir=slots_dir
        ),
        database=DatabaseConfig(
            path=database or data_dir / "litecast.db",
            synchronous=values.get(table.DATABASE_SYNCHRONOUS) or Synchronous.FULL,
        ),
        bus=BusConfig(bind=bind, advertise=values.get(table.BUS_ADVERTISE), secret=secret, secret_file=secret_file),
        discovery=discovery,
        replication=ReplicationConfig(
            mode=values.get(table.REPLICATION_MODE) or Mode.NONE,
            tables=tuple(
                _declaration(values, name, own_tables) for name in dict.fromkeys((*known_tables, *environment.tables))
            ),
            join_timeout_s=values.get(table.REPLICATION_JOIN_TIMEOUT_S) or _DEFAULT_JOIN_TIMEOUT_S,
            clock_bound_s=values.get(table.REPLICATION_CLOCK_BOUND_S) or _DEFAULT_CLOCK_BOUND_S,
            journal_max_age_s=values.get(table.REPLICATION_JOURNAL_MAX_AGE_S) or _DEFAULT_JOURNAL_MAX_AGE_S,
            journal_max_bytes=values.get(table.REPLICATION_JOURNAL_MAX_BYTES) or _DEFAULT_JOURNAL_MAX_BYTES,
            ack=_ack(values),
            ack_timeout_s=values.get(table.REPLICATION_ACK_TIMEOUT_S) or _DEFAULT_ACK_TIMEOUT_S,
            unreplicated_max_s=_unreplicated_max_s(values),
        ),
        lease=_lease(values, discovery.method),
        forwarding=ForwardingConfig(
            hold_s=values.get(table.FORWARDING_HOLD_S) or _DEFAULT_FORWARDING_S,
            call_s=values.get(table.FORWARDING_CALL_S) or _DEFAULT_FORWARDING_S,
            visible_s=values.get(table.FORWARDING_VISIBLE_S) or _DEFAULT_FORWARDING_S,
        ),
        backup=_backup(values, secret, old_secret),
        http=HttpConfig(
            bind=values.get(table.HTTP_BIND) or parse_address(_DEFAULT_HTTP_BIND),
            program=_program(values, values.get(table.BUS_ADVERTISE) or bind),
        ),
        log=LogConfig(
            level=values.get(table.LOG_LEVEL) or LogLevel.INFO,
            format=values.get(table.LOG_FORMAT) or LogFormat.TEXT,
        ),
        file=path,
        warnings=(*warnings, *old_warnings),
    )


class _Values:
    """The layers, strongest first. `stated` ones were written by a person, `assumed` is what the platform says."""

    def __init__(self, *, stated: tuple[Layer, ...], assumed: Layer, folder: Path) -> None:
        self._stated = stated
        self._assumed = assumed
        self._folder = folder

    def get[T](self, setting: Setting[T]) -> T | None:
        """The strongest value of the key, None without one. Raises ConfigError if any that was stated is wrong."""
        values = [self._read(setting, layer.values[setting]) for layer in self._stated if setting in layer.values]
        if values:
            return values[0]
        assumed = self._assumed.values
        return self._read(setting, assumed[setting]) if setting in assumed else None

    def path(self, setting: Setting[Path]) -> Path | None:
        """As `get`, counted from the configuration file's folder."""
        path = self.get(setting)
        return None if path is None else self._folder / path

    def place(self, setting: Setting[Any]) -> str:
        """Where the strongest value of a key stands that has one."""
        return self._strongest(setting)[1].place

    def is_stated(self, setting: Setting[Any]) -> bool:
        """Whether a person wrote the key, in any place."""
        return any(setting in layer.values for layer in self._stated)

    def is_in_file_only(self, setting: Setting[Any], *, unlike: Setting[Any]) -> bool:
        """Whether a key was written in the file and nowhere else, and the other key is from the environment."""
        in_file = len(self._stated) - 1
        return self.strength(setting) == in_file > self.strength(unlike)

    def strength(self, setting: Setting[Any]) -> int:
        """Which layer the strongest value is from: 0 is stronger than 1."""
        return self._strongest(setting)[0]

    def _strongest(self, setting: Setting[Any]) -> tuple[int, Given]:
        layers = (*self._stated, self._assumed)
        return next(
            (strength, layer.values[setting]) for strength, layer in enumerate(layers) if setting in layer.values
        )

    def _read[T](self, setting: Setting[T], given: Given) -> T:
        try:
            return setting.kind.read(given.value)
        except ValueError as error:
            raise ConfigError(f"{given.place} {error}") from None


def _node_name(host_name: str) -> str:
    """The host's own name without its domain, with dashes for what a node's name cannot have."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", host_name.split(".")[0]).strip("-_")[:63] or "node"


def _slots_dir(values: _Values) -> Path | None:
    """The folder in which this node claims a part; the claim decides its name and its paths."""
    slots_dir = values.path(table.NODE_SLOTS_DIR)
    if slots_dir is not None:
        place = values.place(table.NODE_SLOTS_DIR)
        for setting in (table.NODE_NAME, table.NODE_DATA_DIR, table.DATABASE_PATH):
            # As a variable it overrides what the file says of them; beside it in one place they are a mistake.
            if values.is_stated(setting) and not values.is_in_file_only(setting, unlike=table.NODE_SLOTS_DIR):
                raise ConfigError(
                    f"{place} is given, and the folder that is claimed there decides {setting}: "
                    f"remove {values.place(setting)}"
                )
    return slots_dir


def _secret(
    values: _Values, text: Setting[Secret], in_file: Setting[Path]
) -> tuple[Secret | None, Path | None, tuple[str, ...]]:
    """A secret, the file that it came from if it came from one, and warnings about that file."""
    secret = values.get(text)
    file = values.path(in_file)
    if file is None:
        return secret, None, ()
    place = values.place(in_file)
    if secret is not None:
        here, there = values.strength(text), values.strength(in_file)
        if here == there:
            raise ConfigError(f"{place} is given, and {text} too: keep one of the two")
        if here < there:
            return secret, None, ()
    try:
        secret = read_secret_file(file)
        exposed = is_readable_by_others(file)
    except (SecretError, OSError) as error:
        raise ConfigError(f"{place}: {error}") from None
    warning = f"{file} holds the cluster's secret, and everybody here can read it: chmod 600 {file}"
    return secret, file, (warning,) if exposed else ()


def _discovery(values: _Values, bind: Address) -> DiscoveryConfig:
    peers = values.get(table.DISCOVERY_PEERS) or ()
    method = values.get(table.DISCOVERY_METHOD)
    # Peers that a person named are meant to be asked, also on Fly; a method that a person named is obeyed.
    if peers and (method is None or not values.is_stated(table.DISCOVERY_METHOD)):
        method = Method.STATIC
    method = method or Method.NONE
    dns_name = values.get(table.DISCOVERY_DNS_NAME)
    if method is Method.DNS and dns_name is None:
        raise ConfigError(
            f"{values.place(table.DISCOVERY_METHOD)} = 'dns' needs {table.DISCOVERY_DNS_NAME}, which lists the nodes"
        )
    return DiscoveryConfig(
        method=method,
        peers=peers,
        dns_name=dns_name,
        dns_port=values.get(table.DISCOVERY_DNS_PORT) or bind.port or BUS_PORT,
        poll_interval_s=values.get(table.DISCOVERY_POLL_INTERVAL_S) or _DEFAULT_POLL_INTERVAL_S,
    )


def _program(values: _Values, reached_at: Address) -> Address | None:
    """Where other nodes reach the program; at the host of the bus if it listens at all of this machine's."""
    program = values.get(table.HTTP_PROGRAM)
    if program is None:
        return None
    host = reached_at.host if program.is_wildcard else program.host
    if Address(host, program.port).is_wildcard or program.port == 0:
        raise ConfigError(
            f"{values.place(table.HTTP_PROGRAM)} is no address at which other nodes could reach the program: name this "
            f"machine's, or {table.BUS_ADVERTISE}"
        )
    return Address(host, program.port)


def _ack(values: _Values) -> Ack:
    ack = values.get(table.REPLICATION_ACK) or Ack.LOCAL
    if ack is not Ack.LOCAL and not (values.get(table.REPLICATION_MODE) or Mode.NONE).makes_changesets:
        raise ConfigError(
            f"{values.place(table.REPLICATION_ACK)} = '{ack}' needs {table.REPLICATION_MODE} = 'convergent' or "
            "'primary': in the others no node knows what another one has"
        )
    if ack is Ack.BUCKET and values.get(table.BACKUP_URL) is None:
        raise ConfigError(
            f"{values.place(table.REPLICATION_ACK)} = 'bucket' needs {table.BACKUP_URL}: there a write has to be"
        )
    if ack is Ack.QUORUM and values.get(table.CLUSTER_SIZE) is None:
        raise ConfigError(
            f"{values.place(table.REPLICATION_ACK)} = 'quorum' needs {table.CLUSTER_SIZE}: more than half of so many "
            "nodes have to have a write"
        )
    return ack


def _unreplicated_max_s(values: _Values) -> float | None:
    bound_s = values.get(table.REPLICATION_UNREPLICATED_MAX_S)
    if bound_s is None:
        return None
    place = values.place(table.REPLICATION_UNREPLICATED_MAX_S)
    if bound_s < _UNREPLICATED_MIN_S:
        raise ConfigError(
            f"{place} = {bound_s:g} is less than {_UNREPLICATED_MIN_S:g}: nodes say each second how far they are"
        )
    if values.get(table.REPLICATION_MODE) is Mode.PRIMARY and (values.get(table.CLUSTER_SIZE) or 1) < 2:
        raise ConfigError(f"{place} needs {table.CLUSTER_SIZE} of 2 or more: it bounds what no other node has")
    return bound_s


def _lease(values: _Values, method: Method) -> LeaseConfig:
    provider = values.get(table.LEASE_PROVIDER) or LeaseProvider.STATIC
    primary, region = values.get(table.LEASE_PRIMARY), values.get(table.LEASE_REGION)
    url, candidate = values.get(table.LEASE_URL), values.get(table.LEASE_CANDIDATE)
    if values.get(table.REPLICATION_MODE) is Mode.PRIMARY:
        place = values.place(table.REPLICATION_MODE)
        if provider is LeaseProvider.STATIC and method is not Method.NONE and primary is None and region is None:
            raise ConfigError(
                f"{place} = 'primary' needs to know which node writes: {table.LEASE_PRIMARY} names it, or "
                f"{table.LEASE_REGION} where it is, or {table.LEASE_PROVIDER} = 'object_store' lets nodes take turns"
            )
        if provider is LeaseProvider.OBJECT_STORE and url is None:
            raise ConfigError(
                f"{values.place(table.LEASE_PROVIDER)} = 'object_store' needs {table.LEASE_URL}, a place that all "
                "nodes reach"
            )
        if provider.takes_turns and method is not Method.NONE and values.get(table.CLUSTER_SIZE) is None:
            raise ConfigError(
                f"{values.place(table.LEASE_PROVIDER)} = '{provider}' needs {table.CLUSTER_SIZE}: a node that takes "
                "over asks a majority of so many what they have"
            )
    return LeaseConfig(
        provider=provider,
        primary=primary,
        region=region,
        candidate=candidate is not False,
        ttl_s=values.get(table.LEASE_TTL_S) or _DEFAULT_LEASE_TTL_S,
        url=url,
    )


def _backup(values: _Values, secret: Secret | None, old_secret: Secret | None) -> BackupConfig:
    url, mode = values.get(table.BACKUP_URL), values.get(table.REPLICATION_MODE) or Mode.NONE
    if url is not None and not mode.makes_changesets:
        raise ConfigError(
            f"{values.place(table.BACKUP_URL)} is given, and in mode {mode} there is nothing to upload: set "
            f"{table.REPLICATION_MODE} to 'convergent' or 'primary', or have Litestream copy the file"
        )
    encrypt = values.get(table.BACKUP_ENCRYPT) is True
    if encrypt and secret is None:
        raise ConfigError(
            f"{values.place(table.BACKUP_ENCRYPT)} = true needs {table.BUS_SECRET_FILE} or {table.BUS_SECRET}: the "
            "secret is what opens the backup; `litecast keygen` makes one"
        )
    interval_s = values.get(table.BACKUP_INTERVAL_S) or _DEFAULT_BACKUP_INTERVAL_S
    snapshot_interval_s = values.get(table.BACKUP_SNAPSHOT_INTERVAL_S) or _DEFAULT_SNAPSHOT_INTERVAL_S
    if snapshot_interval_s < interval_s:
        raise ConfigError(
            f"{values.place(table.BACKUP_SNAPSHOT_INTERVAL_S)} = {snapshot_interval_s:g} is shorter than "
            f"{table.BACKUP_INTERVAL_S} = {interval_s:g}: copying everything cannot be done more often than uploading "
            "what is new; 3600 is usual"
        )
    retention_s = values.get(table.BACKUP_RETENTION_S) or _DEFAULT_RETENTION_S
    if retention_s < snapshot_interval_s:
        raise ConfigError(
            f"{values.place(table.BACKUP_RETENTION_S)} = {retention_s:g} is shorter than "
            f"{table.BACKUP_SNAPSHOT_INTERVAL_S} = {snapshot_interval_s:g}: what is kept for so long begins with a "
            "snapshot; make that one shorter, or this one longer"
        )
    return BackupConfig(
        url=url,
        interval_s=interval_s,
        snapshot_interval_s=snapshot_interval_s,
        retention_s=retention_s,
        encrypt=encrypt,
        old_secret=old_secret,
    )


def _with_own(tables: Sequence[str], own_tables: Sequence[TableDeclaration]) -> tuple[str, ...]:
    """These tables and the own ones that are not among them."""
    named = set(map(str.lower, tables))
    return (*tables, *(own.name for own in own_tables if own.name.lower() not in named))


def _declaration(values: _Values, name: str, own_tables: Sequence[TableDeclaration]) -> TableDeclaration:
    default = next((own for own in own_tables if own.name.lower() == name.lower()), TableDeclaration(name=name))

    def given[T](setting: Setting[T], otherwise: T) -> T:
        value = values.get(of_table(setting, name))
        return otherwise if value is None else value

    return TableDeclaration(
        name=name,
        counters=given(table.TABLE_COUNTERS, default.counters),
        merge=given(table.TABLE_MERGE, default.merge),
        shared_ids=given(table.TABLE_SHARED_IDS, default.shared_ids),
        drift_ignore=given(table.TABLE_DRIFT_IGNORE, default.drift_ignore),
        renamed=given(table.TABLE_RENAMED, {**default.renamed}),
    )
