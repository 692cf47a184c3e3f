"""What both faces of the middleware share: it looks at the request, the node's file and the database, and decides."""

import logging
import os
import random
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from replication.epoch_position import EpochPosition
from replication.file_position import FilePosition
from replication.middleware import token
from replication.middleware.node_file import NodeFile, NodeFileError, Standing
from replication.middleware.received import (
    POSITION,
    Forwarded,
    Received,
    cookie_for,
    forwarded_header,
    newest_position,
    read_forwarded,
)
from replication.middleware.routing import SAFE_METHODS, AnswerHere, Asked, Refuse, Step, next_step

type IsWrite = Callable[[str, str], bool]
"""Whether a request with this method and path may write."""

log = logging.getLogger(__name__)

DATABASE_PATH: Final = "DATABASE_PATH"
FRESH_S: Final = 0.001
SAID_EVERY_S: Final = 10.0


class NoDatabase(ValueError):
    """The middleware was not told where the database is."""

    def __init__(self) -> None:
        super().__init__(
            "where is the database? Run the program under `litecast run`, which says so in DATABASE_PATH, or give the "
            "middleware database=..."
        )


def is_unsafe(method: str, path: str) -> bool:
    """Whether a method is one that changes something (RFC 9110, section 9.2.1)."""
    return method not in SAFE_METHODS


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request that there is something to decide about.

    `standing`: what the node said when it came, None if that could not be read. `forwarded`: what the node that
    forwarded it knew of the client, where that can be believed."""

    received: Received
    asked: Asked
    standing: Standing | None
    forwarded: Forwarded | None = None

    def staying(self) -> "Case":
        """The same, after it was tried elsewhere in vain."""
        return replace(self, asked=replace(self.asked, stays=True))


class Desk:
    """For one program. `environ` is that of its process."""

    def __init__(
        self,
        database: Path | str | None = None,
        is_write: IsWrite = is_unsafe,
        *,
        forwards: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Raises NoDatabase."""
        path = database or environ.get(DATABASE_PATH)
        if not path:
            raise NoDatabase
        self._file = FilePosition(Path(path))
        self._node = NodeFile(Path(path))
        self._is_write = is_write
        self._forwards = forwards
        self._on_fly = bool(environ.get("FLY_MACHINE_ID"))
        self._said_s = -1e9

    def case(self, received: Received) -> Case | None:
        """The request, looked at; None if the program answers, as it does most that only read, and everything where no
        node ever ran beside the database."""
        writes, tokens, region = self._is_write(received.method, received.path), received.tokens, received.region
        if not (writes or tokens or region):
            return None
        try:
            standing = self._node.look()
        except NodeFileError as error:
            self._warn(str(error))
            return Case(received=received, asked=Asked(writes=writes), standing=None)
        if standing is None:
            return None
        says = standing.says
        forwarded = read_forwarded(received, says) if received.forwarded else None
        asked = Asked(
            writes=writes,
            position=newest_position(tokens, says.key),
            region=region,
            body_bytes=received.body_bytes,
            was_forwarded=forwarded is not None,
            was_replayed=received.was_replayed,
            at_home=not self._forwards,
        )
        return Case(received=received, asked=asked, standing=standing, forwarded=forwarded if says.is_secret else None)

    def step(self, case: Case, *, waited_s: float) -> Step:
        """What to do with it now. What was seen with the request is good for the first moment."""
        try:
            standing = case.standing if waited_s < FRESH_S and case.standing is not None else self._node.look()
        except NodeFileError as error:
            return Refuse(str(error)) if case.asked.writes else AnswerHere(is_write=False, with_position=False)
        return next_step(
            case.asked,
            standing,
            on_fly=self._on_fly,
            waited_s=waited_s,
            has_reached=self.has_reached,
            choose=random.choice,
        )

    def may_still_write(self) -> bool:
        """Whether what was written can be acknowledged."""
        try:
            standing = self._node.look()
        except NodeFileError:
            return False
        return standing is None or standing.may_write

    def has_reached(self, position: EpochPosition) -> bool:
        """Whether all up to there can be read here; False also if that cannot be told now."""
        try:
            return self._file.has_reached(position)
        except sqlite3.Error as error:
            self._warn(f"how far the database is cannot be read: {error}")
            return False

    def has_written(self, position: EpochPosition) -> bool | None:
        """Whether what was written up to there can be read here; None if it never will."""
        try:
            return self._file.has_written(position)
        except sqlite3.Error as error:
            self._warn(f"how far the database is cannot be read: {error}")
            return False

    def visible_s(self) -> float:
        """How long to wait for a forwarded write until it can be read here."""
        standing = self._node.look()
        return 0.0 if standing is None else standing.says.visible_s

    def position_headers(self, case: Case) -> list[tuple[str, str]]:
        """The headers that give the client the position of all that is committed here by now, unless it has it."""
        if case.standing is None:
            return []
        try:
            position = self._file.now()
        except sqlite3.Error as error:
            self._warn(f"a client gets no position: {error}")
            return []
        if position is None or (case.asked.position is not None and position <= case.asked.position):
            return []
        text = token.signed(position, case.standing.says.key)
        scheme = case.forwarded.scheme if case.forwarded is not None else case.received.scheme
        return [(POSITION, text), ("set-cookie", cookie_for(text, is_https=scheme == "https"))]

    def position_of(self, text: str) -> EpochPosition | None:
        """The position that another node's answer came with; None if it came with none that can be read."""
        try:
            standing = self._node.look()
            return None if standing is None or not text else token.parse(text, standing.says.key)
        except (NodeFileError, token.TokenError):
            return None

    def forwarded(self, received: Received) -> str:
        """The value of `litecast-forwarded` for a request that goes to another node. Raises NodeFileError."""
        standing = self._node.look()
        return "" if standing is None else forwarded_header(received, standing.says)

    def _warn(self, text: str) -> None:
        """Not more than once in ten seconds."""
        now_s = time.monotonic()
        if now_s - self._said_s > SAID_EVERY_S:
            self._said_s = now_s
            log.warning("%s", text)
