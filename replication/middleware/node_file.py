"""What a node says to programs beside it, in one file beside the database: `<database>-node`.

JSON: who the node is and where, until when it may write, which node is the primary, where the programs of other nodes
are reached, the key for position tokens. It is replaced as a whole when something of that changes. In between, the
file's modification time is the node's heartbeat: *seconds since the machine started*, on the clock that all of its
processes share and nobody sets. So a program knows without asking whether its node is awake, and stops writing when it
is not; and the heartbeat costs no data. When the node stops, the file stays, and says nothing new.

Who can read the database can read this file: it has the same owner and mode."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cluster.lease import deciding
from cluster.lease.boot_clock import boot_clock_s

SUFFIX: Final = "-node"
VERSION: Final = 1
MAX_BYTES: Final = 1_000_000


class NodeFileError(ValueError):
    """The file is none of this version's. It names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherNode:
    """A node that is up. `url`: where its program is reached, without a slash at the end; None if it did not say."""

    region: str
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSays:
    """The file's content. `url`: where the node's own pages are, for this machine.

    `good_until_s`: until when this node may write, by the boot clock; 0 if it is not the
    primary, infinite for a lease that does not end. `key` signs tokens; `is_secret`: whether it is made of a secret."""

    node: str
    region: str
    url: str
    primary: str | None
    good_until_s: float
    key: bytes
    is_secret: bool
    hold_s: float
    visible_s: float
    others: Mapping[str, OtherNode] = field(default_factory=dict[str, OtherNode])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the file says, and whether the node may write at this moment, and is awake."""

    says: NodeSays
    may_write: bool
    is_awake: bool


def path_of(database: Path) -> Path:
    """Where the file is."""
    return database.with_name(database.name + SUFFIX)


class NodeFileWriter:
    """Writes the file of one database. Each method raises OSError."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = path_of(database)
        self._written = b""
        self._number = 0

    def tell(self, says: NodeSays, *, awake_s: float) -> None:
        """`awake_s`: when the node last looked at its lease, by the boot clock."""
        text = encode(says)
        if text != self._written:
            new = self._path.with_name(self._path.name + ".new")
            new.touch(mode=0o600)
            new.write_bytes(text)
            self._beat(new, awake_s)
            new.chmod(self._database.stat().st_mode & 0o666)
            new.replace(self._path)
            self._written = text
        else:
            self._beat(self._path, awake_s)

    def _beat(self, path: Path, awake_s: float) -> None:
        # Whoever reads tells by inode and time whether it is the file that was read last. Inodes come again, and a
        # moment may have two files: so the nanoseconds are a number.
        self._number = (self._number + 1) % 1000
        ns = int(awake_s * 1e6) * 1000 + self._number
        os.utime(path, ns=(ns, ns))


class NodeFile:
    """Reads the file of one database."""

    def __init__(self, database: Path, clock: Callable[[], float] = boot_clock_s) -> None:
        self._path = path_of(database)
        self._clock = clock
        self._read: tuple[tuple[int, int], NodeSays] | None = None

    def look(self) -> Standing | None:
        """As things are now; None if no node has ever run beside this database in mode primary. Raises NodeFileError.

        Takes some ten microseconds."""
        try:
            found = self._path.stat()
            if self._read is None or self._read[0] != (found.st_ino, found.st_mtime_ns):
                with self._path.open("rb", buffering=0) as file:
                    found = os.fstat(file.fileno())
                    self._read = ((found.st_ino, found.st_mtime_ns), self._decoded(file.read(MAX_BYTES)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NodeFileError(f"{self._path} cannot be read: {error.strerror}") from None
        awake_s, says, now_s = found.st_mtime_ns // 1000 / 1e6, self._read[1], self._clock()
        # A heartbeat in the future is one from before the machine was started again.
        is_awake = awake_s <= now_s <= awake_s + deciding.STALL_S
        may_write = is_awake and deciding.may_write(now_s=now_s, good_until_s=says.good_until_s, awake_s=awake_s)
        return Standing(says=says, may_write=may_write, is_awake=is_awake)

    def _decoded(self, text: bytes) -> NodeSays:
        try:
            return decode(text)
        except (ValueError, KeyError, TypeError) as error:
            raise NodeFileError(
                f"{self._path} is not what this version's nodes write ({error}): is the node of another version?"
            ) from None


def encode(says: NodeSays) -> bytes:
    """The file's content."""
    until = None if math.isinf(says.good_until_s) else says.good_until_s
    return json.dumps(
        {
            "version": VERSION,
            "node": says.node,
            "region": says.region,
            "url": says.url,
            "primary": says.primary,
            "good_until_s": until,
            "key": says.key.hex(),
            "is_secret": says.is_secret,
            "hold_s": says.hold_s,
            "visible_s": says.visible_s,
            "others": {name: {"region": one.region, "url": one.url} for name, one in sorted(says.others.items())},
        }
    ).encode()


def decode(text: bytes) -> NodeSays:
    """What `encode` was given. Raises ValueError, KeyError or TypeError."""
    found: dict[str, Any] = json.loads(text)
    if found["version"] != VERSION:
        raise ValueError(f"version {found['version']}")
    until = found["good_until_s"]
    return NodeSays(
        node=str(found["node"]),
        region=str(found["region"]),
        url=str(found["url"]),
        primary=None if found["primary"] is None else str(found["primary"]),
        good_until_s=math.inf if until is None else float(until),
        key=bytes.fromhex(found["key"]),
        is_secret=bool(found["is_secret"]),
        hold_s=float(found["hold_s"]),
        visible_s=float(found["visible_s"]),
        others={
            name: OtherNode(region=str(one["region"]), url=None if one["url"] is None else str(one["url"]))
            for name, one in found["others"].items()
        },
    )
