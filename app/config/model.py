"""A node's settings as the program sees them: complete, checked, paths absolute, defaults filled in."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cluster.address import Address
from cluster.discovery import Method
from cluster.security import Secret
from replication.acknowledging.levels import Ack
from replication.declared import TableDeclaration
from replication.opening import Synchronous


class Mode(StrEnum):
    """How writes reach the other nodes."""

    NONE = "none"
    NAIVE = "naive"
    CONVERGENT = "convergent"
    PRIMARY = "primary"

    @property
    def makes_changesets(self) -> bool:
        """Whether the engine runs: what is written is folded, and merged elsewhere."""
        return self in (Mode.CONVERGENT, Mode.PRIMARY)


class LeaseProvider(StrEnum):
    """Who says which node may write, in mode primary."""

    STATIC = "static"
    OBJECT_STORE = "object_store"
    CONSUL = "consul"

    @property
    def takes_turns(self) -> bool:
        """Whether another node may follow the one that writes."""
        return self is not LeaseProvider.STATIC


class LogLevel(StrEnum):
    """The least severe log line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Who the log is written for: people (`text`) or programs (`json`)."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """`[cluster]`: nodes of different clusters refuse each other. `size`: how many nodes it is meant to have."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """`[node]`: who this node is, and the folder that is its own.

    With `slots_dir`, `name`, `data_dir` and the database's path stand only once `app.slots.claimed` has filled them in.
    """

    name: str
    region: str
    data_dir: Path
    slots_dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """`[database]`: the SQLite file."""

    path: Path
    synchronous: Synchronous


@dataclass(frozen=True, slots=True, kw_only=True)
class BusConfig:
    """`[bus]`: where peers reach this node. `secret` is there already where it came from `secret_file`."""

    bind: Address
    advertise: Address | None
    secret: Secret | None
    secret_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """`[discovery]`: `dns_name` is never None where the method is `dns`."""

    method: Method
    peers: tuple[Address, ...]
    dns_name: str | None
    dns_port: int
    poll_interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationConfig:
    """`[replication]`, with one of `tables` for each `[replication.tables.NAME]`: they hold in every mode."""

    mode: Mode
    tables: tuple[TableDeclaration, ...]
    join_timeout_s: float
    clock_bound_s: float
    journal_max_age_s: float
    journal_max_bytes: int
    ack: Ack
    ack_timeout_s: float
    unreplicated_max_s: float | None
    """None: no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseConfig:
    """`[lease]`: `url` is never None where the provider is an object store. With neither `primary` nor `region`, a
    static lease is this node's."""

    provider: LeaseProvider
    primary: str | None
    region: str | None
    candidate: bool
    ttl_s: float
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingConfig:
    """`[forwarding]`: how long a write on a replica waits for what."""

    hold_s: float
    call_s: float
    visible_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupConfig:
    """`[backup]`: without a `url` there is none. If it is to `encrypt`, there is a secret."""

    url: str | None = None
    interval_s: float = 1.0
    snapshot_interval_s: float = 3600.0
    retention_s: float = 604_800.0
    encrypt: bool = False
    old_secret: Secret | None = None
    """What the cluster's secret was before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """`[http]`: where browsers reach this node, and other nodes the program beside it. `program` is no wildcard."""

    bind: Address
    program: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """`[log]`."""

    level: LogLevel
    format: LogFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of one node. `file` is where they came from, None without a file.

    `warnings` are lines for the log: settings that work, and that an operator should look at nevertheless.
    """

    cluster: ClusterConfig
    node: NodeConfig
    database: DatabaseConfig
    bus: BusConfig
    discovery: DiscoveryConfig
    replication: ReplicationConfig
    lease: LeaseConfig
    forwarding: ForwardingConfig
    backup: BackupConfig
    http: HttpConfig
    log: LogConfig
    file: Path | None = None
    warnings: tuple[str, ...] = ()
