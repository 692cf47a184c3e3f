"""The actor `Digests`: what a node answers when nodes are compared, in every mode."""

import logging
from collections.abc import Sequence
from typing import Protocol, assert_never

from cluster.actor import Actor
from replication.convergent.engine import Engine
from replication.engine.received import Malformed
from replication.engine.scanning import Damage
from replication.measuring.jobs import Jobs, TooManyJobs, error
from replication.measuring.questions import (
    DIGESTS,
    AskDigest,
    AskExchange,
    AskLook,
    AskNext,
    AskRepair,
    AskRows,
    AskValues,
    Question,
    Repair,
    parse_question,
)
from replication.measuring.reader import Reader

log = logging.getLogger(__name__)


class Repairer(Protocol):
    """Mends this node's own rows."""

    async def mend(self, how: Repair) -> list[object]:
        """What is damaged is adopted or restored: the parts of the answer."""
        ...

    async def exchange(self) -> list[object]:
        """All that each peer has is merged: the parts of the answer."""
        ...


class Desk:
    """Where questions are answered; it outlives the actor. `repairer` is None in the modes that know no damage."""

    def __init__(self, reader: Reader, engine: Engine, *, jobs: Jobs | None = None) -> None:
        self._reader = reader
        self._engine = engine
        self._jobs = jobs or Jobs()
        self.repairer: Repairer | None = None

    async def answer(self, message: object) -> list[object]:
        """The answer to whoever asks. Raises nothing that is the asker's fault, or the database's."""
        try:
            question = parse_question(message)
        except Malformed as exc:
            return error(str(exc))
        if isinstance(question, AskNext):
            return await self._jobs.part(question.ref, question.number)
        try:
            ref = self._jobs.begin(self._work(question))
        except TooManyJobs as exc:
            return error(str(exc))
        return await self._jobs.part(ref, 0)

    async def _work(self, question: Question) -> Sequence[object]:
        reader = self._reader
        match question:
            case AskLook():
                return await self._engine.run(reader.look)
            case AskDigest():
                return await self._engine.run(lambda: reader.digest(question))
            case AskRows():
                return await self._engine.run(lambda: reader.rows(question))
            case AskValues():
                return await self._engine.run(lambda: reader.values(question))
            case AskRepair(how=how):
                return await self._repairer().mend(how)
            case AskExchange():
                return await self._repairer().exchange()
            case _:
                assert_never(question)

    def _repairer(self) -> Repairer:
        if self.repairer is None:
            raise NothingToRepair
        return self.repairer

    async def tables(self) -> Sequence[str]:
        """The attached tables of this node. Raises sqlite3.Error."""
        return await self._engine.run(self._reader.attached)

    async def scan(self, table: str) -> Damage:
        """What is damaged of one. Raises sqlite3.Error, NotComparable."""
        return await self._engine.run(lambda: self._reader.scan(table))

    async def close(self) -> None:
        """Ends what is being read, and closes the database. May be called twice."""
        await self._jobs.close()
        self._reader.interrupt()
        await self._engine.run(self._reader.close)
        await self._engine.close()


class NothingToRepair(Exception):
    """Only mode convergent knows what a row should be."""

    def __init__(self) -> None:
        super().__init__("only in the modes convergent and primary does a node know what its rows should be")


class Digests(Actor):
    """Hands what comes to the desk, and keeps nothing itself."""

    name = DIGESTS

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def handle_call(self, message: object, sender: str) -> object:
        """A question."""
        return await self._desk.answer(message)

    async def handle_cast(self, message: object, sender: str) -> None:
        """Nothing is cast to this actor; what arrives all the same is ignored."""
