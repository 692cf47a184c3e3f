"""Every setting there is, once: its key, its kind, its default, and what it is for.

`docs/configuration.md` documents what stands here, and a test compares the two.
"""

from dataclasses import dataclass
from typing import Any

from app.config.kinds import ADDRESS, ADDRESSES, DNS_NAME, NAME, PATH, PORT, SECONDS, SECRET, Kind, choice
from app.config.model import LogFormat, LogLevel, Mode
from cluster.discovery import Method
from replication.opening import Synchronous


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting[T]:
    """One key of the configuration file. `default` is for readers; `app.config.load` computes the real one."""

    section: str
    key: str
    kind: Kind[T]
    default: str
    doc: str

    @property
    def env(self) -> str:
        """The environment variable that overrides the key."""
        return f"LITECAST_{self.section}__{self.key}".upper()

    def __str__(self) -> str:
        """The key as an error message names it."""
        return f"[{self.section}] {self.key}"


CLUSTER_NAME = Setting(
    section="cluster", key="name", kind=NAME, default="litecast",
    doc="The cluster's name. Nodes of another name are refused.",
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
    doc="How writes reach the other nodes. `naive` loses some, and exists to show that.",
)  # fmt: skip
HTTP_BIND = Setting(
    section="http", key="bind", kind=ADDRESS, default="127.0.0.1:8080",
    doc="Where browsers and `litecast status` reach this node: `HOST:PORT`.",
)  # fmt: skip
LOG_LEVEL = Setting(
    section="log", key="level", kind=choice(LogLevel), default="info",
    doc="The least severe line that is logged.",
)  # fmt: skip
LOG_FORMAT = Setting(
    section="log", key="format", kind=choice(LogFormat), default="text",
    doc="`text` for people, `json` (one object a line) for programs.",
)  # fmt: skip

SETTINGS: tuple[Setting[Any], ...] = (
    CLUSTER_NAME, NODE_NAME, NODE_REGION, NODE_DATA_DIR, NODE_SLOTS_DIR, DATABASE_PATH, DATABASE_SYNCHRONOUS, BUS_BIND,
    BUS_ADVERTISE, BUS_SECRET, BUS_SECRET_FILE, DISCOVERY_METHOD, DISCOVERY_PEERS, DISCOVERY_DNS_NAME,
    DISCOVERY_DNS_PORT, DISCOVERY_POLL_INTERVAL_S, REPLICATION_MODE, HTTP_BIND, LOG_LEVEL, LOG_FORMAT,
)  # fmt: skip
