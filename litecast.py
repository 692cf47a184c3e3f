"""Peer-replicated SQLite: the names that applications use.

    from litecast import Node, Repo

`Node` is a member of a cluster: it runs actors, finds its peers, and carries messages between them. `Repo` is one
SQLite file, read and written with `await`. `RepoReplication` and `cast_to_peers` tie the two together as `mode =
"naive"` does; a `Replication`, made by `replication_for_file` and reached by peers through the actor
`ReplicationWorker`, as `mode = "convergent"` does. Each row that a `Repo` writes then has the `Position` that a `Repo`
on another node can wait for, and `Repo.changes` tells of each `Change`, as a `ChangeFeed` that goes on from any
`FeedPosition` or says `StartOver`. `attach` prepares tables of any SQLite database for replication, as
`litecast attach` does, and `detach` leaves it as it was. `PrimaryWsgi` and `PrimaryAsgi` are middleware for web
programs beside a node in `mode = "primary"`: whole requests that write go to the node that may; `PrimaryStatements` is
for what such a program writes without a request. The command `litecast` (package `app`) runs all of it from a
`config.toml`.
"""

from cluster.actor import Actor
from cluster.address import Address
from cluster.errors import CallTimeout, ClusterError, NodeDown, NoSuchActor
from cluster.node import Node
from cluster.security import Secret
from cluster.supervisor import ActorChild, Supervisor
from cluster.zeromq import ZeroMqTransport
from replication.convergent.for_file import replication_for_file
from replication.convergent.replication import Replication
from replication.convergent.worker import ReplicationWorker
from replication.database_file import attach, detach
from replication.declared import TableDeclaration
from replication.engine.attaching import AttachReport
from replication.engine.catalogue import MergeRule
from replication.engine.detaching import DetachReport
from replication.engine.refusals import AttachRefused, TableChoice
from replication.errors import PositionTimeout, ReplicationError, StartOver
from replication.feed.change import Change, ChangeOp
from replication.feed.feed import ChangeFeed
from replication.feed.position import FeedPosition
from replication.middleware.asgi import PrimaryAsgi
from replication.middleware.statements import PrimaryStatements
from replication.middleware.wsgi import PrimaryWsgi
from replication.naive import RepoReplication, cast_to_peers
from replication.positions import Position
from replication.repo import Repo
from replication.rows import Op, Row

__all__ = [
    "Actor",
    "ActorChild",
    "Address",
    "AttachRefused",
    "AttachReport",
    "CallTimeout",
    "Change",
    "ChangeFeed",
    "ChangeOp",
    "ClusterError",
    "DetachReport",
    "FeedPosition",
    "MergeRule",
    "NoSuchActor",
    "Node",
    "NodeDown",
    "Op",
    "Position",
    "PositionTimeout",
    "PrimaryAsgi",
    "PrimaryStatements",
    "PrimaryWsgi",
    "Replication",
    "ReplicationError",
    "ReplicationWorker",
    "Repo",
    "RepoReplication",
    "Row",
    "Secret",
    "StartOver",
    "Supervisor",
    "TableChoice",
    "TableDeclaration",
    "ZeroMqTransport",
    "attach",
    "cast_to_peers",
    "detach",
    "replication_for_file",
]
