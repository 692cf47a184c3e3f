"""How a node's replication stands, in a few values that it tells every peer for the live page.

Only mode `convergent` has anything to tell. What a peer says of itself is checked before it is shown: texts are cut
when they are told, and an answer with longer ones is not believed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from replication.backup.status import BackupStatus
from replication.convergent.status import ReplicationStatus

TEXT_MAX_CHARACTERS = 300
NOTES_MAX = 20
COUNT_MAX = 2**63 - 1

type StatusOf = Callable[[], ReplicationStatus]
"""Asks the replication of this node how it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStanding:
    """What people want to know of a node's backup. `snapshot`: the number of the newest one, 0 if none is complete.
    `age_s`: how long the oldest change that the node has has not been there; 0 if all are. `problem`: why nothing is
    uploaded, "" if all is well. `doing`: what goes on beside that.
    """

    url: str
    snapshot: int
    age_s: float
    problem: str = ""
    doing: str = ""

    def plain(self) -> dict[str, Any]:
        """As it is told and shown: plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What people want to know of a node: is its replication well, does it lag, does it need somebody?

    `behind`: of how many sites some peer has something that is not merged there. `waiting`: changesets that came and
    wait for others. `catching_up`: what it is doing about that, "" if nothing. `problem`: why it stands still, "" if
    it does not. `notes`: what a person should look at. `backup`: None without one.
    """

    ready: bool
    behind: int = 0
    waiting: int = 0
    catching_up: str = ""
    problem: str = ""
    notes: tuple[str, ...] = ()
    backup: BackupStanding | None = None

    def plain(self) -> dict[str, Any]:
        """As it is told and shown: plain values."""
        return {
            "ready": self.ready,
            "behind": self.behind,
            "waiting": self.waiting,
            "catching_up": self.catching_up,
            "problem": self.problem,
            "notes": list(self.notes),
            **({} if self.backup is None else {"backup": self.backup.plain()}),
        }


class NoStanding(ValueError):
    """A peer sent something that says nothing of its replication."""


def standing(status: ReplicationStatus) -> Standing:
    """What of a status everybody is told."""
    under_way = status.catching_up
    return Standing(
        ready=status.ready,
        behind=furthest_behind(status.behind),
        waiting=status.waiting,
        catching_up=""
        if under_way is None
        else _cut(in_words(under_way.peer, under_way.part, under_way.changesets, under_way.rows, under_way.bytes)),
        problem=_cut(status.problem),
        notes=tuple(_cut(note) for note in status.notes[:NOTES_MAX]),
        backup=None if status.backup is None else _backup(status.backup),
    )


def _backup(status: BackupStatus) -> BackupStanding:
    return BackupStanding(
        url=_cut(status.url),
        snapshot=status.snapshot,
        age_s=round(status.age_s, 1),
        problem=_cut(status.problem),
        doing=_cut(status.doing),
    )


def furthest_behind(by_peer: Mapping[str, int]) -> int:
    """How far behind whoever is furthest ahead: peers that lack the same things are not added up."""
    return max(by_peer.values(), default=0)


def in_words(peer: str, part: str, changesets: int, rows: int, size_bytes: int) -> str:
    """A catch-up under way, in a few words: `journal from beta: 1,200 changesets, 3.1 MB`."""
    got = [f"{count:,} {what}" for count, what in ((changesets, "changesets"), (rows, "rows")) if count]
    if size_bytes:
        got.append(f"{size_bytes / 1e6:,.1f} MB")
    return f"{part or 'asking'} from {peer}{': ' if got else ''}{', '.join(got)}"


def parse_standing(value: object) -> Standing | None:
    """Checks what a peer told; None if it told nothing, as in the other modes. Raises NoStanding."""
    match value:
        case None:
            return None
        case {
            "ready": bool(ready),
            "behind": int(behind),
            "waiting": int(waiting),
            "catching_up": str(catching_up),
            "problem": str(problem),
            "notes": list(notes),
            **more,
        } if len(notes) <= NOTES_MAX:
            pass
        case _:
            raise NoStanding
    if not all(isinstance(text, str) and len(text) <= TEXT_MAX_CHARACTERS for text in (catching_up, problem, *notes)):
        raise NoStanding
    if not all(type(count) is int and 0 <= count <= COUNT_MAX for count in (behind, waiting)):
        raise NoStanding
    return Standing(
        ready=ready,
        behind=behind,
        waiting=waiting,
        catching_up=catching_up,
        problem=problem,
        notes=tuple(notes),
        backup=_parse_backup(more.get("backup")),
    )


def _parse_backup(value: object) -> BackupStanding | None:
    match value:
        case None:
            return None
        case {
            "url": str(url),
            "snapshot": int(snapshot),
            "age_s": int(age_s) | float(age_s),
            "problem": str(problem),
            "doing": str(doing),
        } if not isinstance(snapshot, bool) and not isinstance(age_s, bool):
            pass
        case _:
            raise NoStanding
    if max(map(len, (url, problem, doing))) > TEXT_MAX_CHARACTERS:
        raise NoStanding
    if not (0 <= snapshot <= COUNT_MAX and 0 <= age_s <= COUNT_MAX):
        raise NoStanding
    return BackupStanding(url=url, snapshot=snapshot, age_s=age_s, problem=problem, doing=doing)


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX_CHARACTERS else text[: TEXT_MAX_CHARACTERS - 1] + "…"
