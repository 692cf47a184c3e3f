"""Every setting there is, once: its key, its kind, its default, and what it is for.

`docs/configuration.md` documents what stands here, and a test compares the two.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from app.config.kinds import (
    ADDRESS,
    ADDRESSES,
    AGE,
    BOOLEAN,
    BYTES,
    COLUMNS,
    DNS_NAME,
    NAME,
    PATH,
    PORT,
    RENAMES,
    SECONDS,
    SECRET,
    SIZE,
    URL,
    Kind,
    choice,
)
from app.config.model import LeaseProvider, LogFormat, LogLevel, Mode
from cluster.discovery import Method
from replication.acknowledging.levels import Ack
from replication.engine.catalogue import MergeRule
from replication.opening import Synchronous

TABLES_SECTION = "replication.tables"
TABLE_SECTION = f"{TABLES_SECTION}.NAME"
"""The section of a table that the person names: `of_table` puts the name in."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting[T]:
    """One key of the configuration file. `default` is for readers; `app.config.load` computes the real one.

    A `section` with dots is that of a table: `replication.tables.` and the table's name, which may have dots itself.
    """

    section: str
    key: str
    kind: Kind[T]
    default: str
    doc: str

    @property
    def env(self) -> str:
        """The environment variable that overrides the key."""
        return f"LITECAST_{'__'.join(map(env_name, self.section.split('.', 2)))}__{self.key.upper()}"

    def __str__(self) -> str:
        """The key as an error message names it."""
        return f"[{shown_section(self.section)}] {self.key}"


def env_name(name: str) -> str:
    """A name as it stands in an environment variable's: capitals, `_` for all but ASCII letters, digits and `_`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name).upper()


def shown_section(section: str) -> str:
    """The section as the file has it: a table's name in quotes where TOML needs them."""
    *above, name = section.split(".", 2)
    return ".".join((*above, name if _BARE.fullmatch(name) else json.dumps(name)))


def of_table[T](setting: Setting[T], name: str) -> Setting[T]:
    """One of `TABLE_SETTINGS`, for the table of this name."""
    return replace(setting, section=section_of_table(name))


def section_of_table(name: str) -> str:
    """The section of a table, as `Setting.section` has it."""
    return f"{TABLES_SECTION}.{name}"


CLUSTER_NAME = Setting(
    section="cluster", key="name", kind=NAME, default="litecast",
    doc="The cluster's name. Nodes of another name are refused.",
)  # fmt: skip
CLUSTER_SIZE = Setting(
    section="cluster", key="size", kind=SIZE, default="1",
    doc="How many nodes it is meant to have. In mode `primary` a majority of them is asked before another one writes.",
)  # fmt: skip
NODE_NAME = Setting(
    section="node", key="name", kind=NAME, default="the host name",
    doc="The node's name, unlike that of any other node of the cluster.",
)  # fmt: skip
NODE_REGION = Setting(
    section="node", key="region", kind=NAME, default="`MY_REGION`, else local",
    doc="Where the node runs, for people to read.",
)  # fmt: skip
NODE_DATA_DIR = Setting(
    section="node", key="data_dir", kind=PATH, default="`data/` and the node's name",
    doc="A folder that is this node's alone. It is made if it is not there.",
)  # fmt: skip
NODE_SLOTS_DIR = Setting(
    section="node", key="slots_dir", kind=PATH, default="none",
    doc="Instead of `name` and `data_dir`: a folder that nodes share, in which each claims `node-1`, `node-2`, ...",
)  # fmt: skip
DATABASE_PATH = Setting(
    section="database", key="path", kind=PATH, default="`litecast.db` in `data_dir`",
    doc="The SQLite file. It is made if it is not there.",
)  # fmt: skip
DATABASE_SYNCHRONOUS = Setting(
    section="database", key="synchronous", kind=choice(Synchronous), default="full",
    doc="`full`: a commit that returned survives a power cut. `normal`: faster, and the last few may not.",
)  # fmt: skip
BUS_BIND = Setting(
    section="bus", key="bind", kind=ADDRESS, default="tcp://127.0.0.1:7400",
    doc="Where this node listens for peers, IPv6 as `tcp://[::]:7400`. Beyond loopback a secret is needed.",
)  # fmt: skip
BUS_ADVERTISE = Setting(
    section="bus", key="advertise", kind=ADDRESS, default="what `bind` says",
    doc="The address that peers are told, if they cannot use `bind`: a wildcard, or an address that is translated.",
)  # fmt: skip
BUS_SECRET = Setting(
    section="bus", key="secret", kind=SECRET, default="none",
    doc="What every node of the cluster knows and nobody else: 32 characters or more. `litecast keygen` makes one.",
)  # fmt: skip
BUS_SECRET_FILE = Setting(
    section="bus", key="secret_file", kind=PATH, default="none",
    doc="A file that holds the secret, instead of `secret`. Only its owner should be able to read it.",
)  # fmt: skip
DISCOVERY_METHOD = Setting(
    section="discovery", key="method", kind=choice(Method), default="static if there are `peers`, else none",
    doc="How this node learns where others might be.",
)  # fmt: skip
DISCOVERY_PEERS = Setting(
    section="discovery", key="peers", kind=ADDRESSES, default="none",
    doc="With `static`: the addresses to try, `HOST:PORT` or `tcp://HOST:PORT`. This node's own may be among them.",
)  # fmt: skip
DISCOVERY_DNS_NAME = Setting(
    section="discovery", key="dns_name", kind=DNS_NAME, default="none",
    doc="With `dns`: the name whose AAAA and A records are the nodes' addresses.",
)  # fmt: skip
DISCOVERY_DNS_PORT = Setting(
    section="discovery", key="dns_port", kind=PORT, default="the port of `bus.bind`",
    doc="With `dns`: the port at which each of those addresses is tried.",
)  # fmt: skip
DISCOVERY_POLL_INTERVAL_S = Setting(
    section="discovery", key="poll_interval_s", kind=SECONDS, default="5",
    doc="With `dns`: seconds between two questions. Longer is calmer; a new node is found that much later.",
)  # fmt: skip
REPLICATION_MODE = Setting(
    section="replication", key="mode", kind=choice(Mode), default="none",
    doc="How writes reach the other nodes. `naive` loses some, `convergent` none; in `primary` one node writes.",
)  # fmt: skip
REPLICATION_JOIN_TIMEOUT_S = Setting(
    section="replication", key="join_timeout_s", kind=SECONDS, default="2",
    doc="How long a starting node waits for what its peers know of it, before it sends anything.",
)  # fmt: skip
REPLICATION_CLOCK_BOUND_S = Setting(
    section="replication", key="clock_bound_s", kind=SECONDS, default="60",
    doc="How far a node's clock may be off. A change from further ahead waits until its time comes.",
)  # fmt: skip
REPLICATION_JOURNAL_MAX_AGE_S = Setting(
    section="replication", key="journal_max_age_s", kind=AGE, default="604800",
    doc="How long the journal keeps a change for nodes that are away; 604800 is a week.",
)  # fmt: skip
REPLICATION_JOURNAL_MAX_BYTES = Setting(
    section="replication", key="journal_max_bytes", kind=BYTES, default="1073741824",
    doc="How large the journal grows before the oldest changes leave it; 1073741824 is 1 GiB.",
)  # fmt: skip
REPLICATION_ACK = Setting(
    section="replication", key="ack", kind=choice(Ack), default="local",
    doc="Where a write is durable before it returns: `local`, `one` more node, a `quorum`, `all`, or the `bucket`.",
)  # fmt: skip
REPLICATION_ACK_TIMEOUT_S = Setting(
    section="replication", key="ack_timeout_s", kind=SECONDS, default="5",
    doc="How long a write waits for that, before it fails with `NotConfirmed`. It stays written.",
)  # fmt: skip
REPLICATION_UNREPLICATED_MAX_S = Setting(
    section="replication", key="unreplicated_max_s", kind=SECONDS, default="none",
    doc="With `primary`: how long the primary goes on writing what no other node has. 3 at least.",
)  # fmt: skip
TABLE_COUNTERS = Setting(
    section=TABLE_SECTION, key="counters", kind=COLUMNS, default="none; of `page_counts`: count",
    doc="INTEGER NOT NULL columns in which what each node adds is added up, instead of the last write winning.",
)  # fmt: skip
TABLE_MERGE = Setting(
    section=TABLE_SECTION, key="merge", kind=choice(MergeRule), default="cell",
    doc="What is merged as one: each `cell` by itself, or the whole `row`.",
)  # fmt: skip
TABLE_SHARED_IDS = Setting(
    section=TABLE_SECTION, key="shared_ids", kind=BOOLEAN, default="false",
    doc="Whether the application chooses integer keys itself, and no two nodes choose one twice.",
)  # fmt: skip
TABLE_DRIFT_IGNORE = Setting(
    section=TABLE_SECTION, key="drift_ignore", kind=COLUMNS,
    default="none; of `page_counts`: inserted_at, updated_at",
    doc="Columns that may differ between nodes: drift is not looked for in them.",
)  # fmt: skip
TABLE_RENAMED = Setting(
    section=TABLE_SECTION, key="renamed", kind=RENAMES, default="none",
    doc="Columns that a migration renames, `{old = \"new\"}`: what comes for one goes to that which is there.",
)  # fmt: skip
LEASE_PROVIDER = Setting(
    section="lease", key="provider", kind=choice(LeaseProvider), default="static",
    doc="Who says which node writes: the settings (`static`), objects in a store (`object_store`), or `consul`.",
)  # fmt: skip
LEASE_PRIMARY = Setting(
    section="lease", key="primary", kind=NAME, default="this node, if nobody is looked for",
    doc="With `static`: the name of the node that writes, the same on all nodes. Of two that are named, on different"
    " nodes, the one that was the primary first stands aside, and says so in `problem`, until it is started again.",
)  # fmt: skip
LEASE_REGION = Setting(
    section="lease", key="region", kind=NAME, default="`PRIMARY_REGION`, else any",
    doc="The region whose nodes may write. With `static` there is one node in it, unless `primary` names one.",
)  # fmt: skip
LEASE_CANDIDATE = Setting(
    section="lease", key="candidate", kind=BOOLEAN, default="true",
    doc="Whether this node may be the one that writes.",
)  # fmt: skip
LEASE_TTL_S = Setting(
    section="lease", key="ttl_s", kind=SECONDS, default="10",
    doc="How long a node that died keeps others from writing; with `consul` up to twice as long.",
)  # fmt: skip
LEASE_URL = Setting(
    section="lease", key="url", kind=URL, default="none",
    doc="A place that all nodes reach: `s3://BUCKET/FOLDER`, `file:///FOLDER`; with `consul`, `http://HOST:8500/FOLDER`.",
)  # fmt: skip
FORWARDING_HOLD_S = Setting(
    section="forwarding", key="hold_s", kind=SECONDS, default="5",
    doc="How long a write waits for a node that may write, before it is refused.",
)  # fmt: skip
FORWARDING_CALL_S = Setting(
    section="forwarding", key="call_s", kind=SECONDS, default="5",
    doc="How long a forwarded write waits for the primary's answer.",
)  # fmt: skip
FORWARDING_VISIBLE_S = Setting(
    section="forwarding", key="visible_s", kind=SECONDS, default="5",
    doc="How long it then waits until it can be read on the node that forwarded it.",
)  # fmt: skip
BACKUP_URL = Setting(
    section="backup", key="url", kind=URL, default="none",
    doc="Where all nodes upload what is written: `s3://BUCKET/FOLDER`, `gs://...`, `az://...`, `file:///FOLDER`.",
)  # fmt: skip
BACKUP_INTERVAL_S = Setting(
    section="backup", key="interval_s", kind=SECONDS, default="1",
    doc="How long a change waits for others to be uploaded with it. Longer is cheaper; a loss of all nodes loses more.",
)  # fmt: skip
BACKUP_SNAPSHOT_INTERVAL_S = Setting(
    section="backup", key="snapshot_interval_s", kind=AGE, default="3600",
    doc="How often the whole database is copied there, if anything was written. A restore merges what came later.",
)  # fmt: skip
BACKUP_RETENTION_S = Setting(
    section="backup", key="retention_s", kind=AGE, default="604800",
    doc="How long every moment can be restored. What is not needed for that is removed from the bucket.",
)  # fmt: skip
BACKUP_ENCRYPT = Setting(
    section="backup", key="encrypt", kind=BOOLEAN, default="false",
    doc="Whether all that is uploaded is encrypted, and read with the cluster's secret. Decided at the first upload.",
)  # fmt: skip
BACKUP_OLD_SECRET = Setting(
    section="backup", key="old_secret", kind=SECRET, default="none",
    doc="The secret that the cluster had before: it opens an encrypted backup for the new one.",
)  # fmt: skip
BACKUP_OLD_SECRET_FILE = Setting(
    section="backup", key="old_secret_file", kind=PATH, default="none",
    doc="A file that holds it, instead of `old_secret`.",
)  # fmt: skip
HTTP_BIND = Setting(
    section="http", key="bind", kind=ADDRESS, default="127.0.0.1:8080",
    doc="Where browsers and `litecast status` reach this node: `HOST:PORT`.",
)  # fmt: skip
HTTP_PROGRAM = Setting(
    section="http", key="program", kind=ADDRESS, default="none",
    doc="Where other nodes reach the program beside this one, in mode `primary`, for requests that they forward.",
)  # fmt: skip
LOG_LEVEL = Setting(
    section="log", key="level", kind=choice(LogLevel), default="info",
    doc="The least severe line that is logged.",
)  # fmt: skip
LOG_FORMAT = Setting(
    section="log", key="format", kind=choice(LogFormat), default="text",
    doc="`text` for people, `json` (one object a line) for programs.",
)  # fmt: skip

TABLE_SETTINGS: tuple[Setting[Any], ...] = (
    TABLE_COUNTERS, TABLE_MERGE, TABLE_SHARED_IDS, TABLE_DRIFT_IGNORE, TABLE_RENAMED,
)  # fmt: skip

SETTINGS: tuple[Setting[Any], ...] = (
    CLUSTER_NAME, CLUSTER_SIZE, NODE_NAME, NODE_REGION, NODE_DATA_DIR, NODE_SLOTS_DIR, DATABASE_PATH,
    DATABASE_SYNCHRONOUS, BUS_BIND, BUS_ADVERTISE, BUS_SECRET, BUS_SECRET_FILE, DISCOVERY_METHOD, DISCOVERY_PEERS,
    DISCOVERY_DNS_NAME, DISCOVERY_DNS_PORT, DISCOVERY_POLL_INTERVAL_S, REPLICATION_MODE, REPLICATION_JOIN_TIMEOUT_S,
    REPLICATION_CLOCK_BOUND_S, REPLICATION_JOURNAL_MAX_AGE_S, REPLICATION_JOURNAL_MAX_BYTES, REPLICATION_ACK,
    REPLICATION_ACK_TIMEOUT_S, REPLICATION_UNREPLICATED_MAX_S, *TABLE_SETTINGS,
    LEASE_PROVIDER, LEASE_PRIMARY, LEASE_REGION, LEASE_CANDIDATE, LEASE_TTL_S, LEASE_URL, FORWARDING_HOLD_S,
    FORWARDING_CALL_S, FORWARDING_VISIBLE_S, BACKUP_URL, BACKUP_INTERVAL_S, BACKUP_SNAPSHOT_INTERVAL_S,
    BACKUP_RETENTION_S, BACKUP_ENCRYPT, BACKUP_OLD_SECRET, BACKUP_OLD_SECRET_FILE, HTTP_BIND, HTTP_PROGRAM,
    LOG_LEVEL, LOG_FORMAT,
)  # fmt: skip
