"""Addresses whose host is a name: a name server that does not answer must hold up nobody else."""

import threading
from collections.abc import Sequence

import pytest

from cluster.address import Address
from cluster.discovery import lookup
from cluster.transport import LostReason
from cluster.zeromq import ZeroMqTransport
from tests.support.eventually import eventually


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.stands: list[str] = []
        self.failed: list[tuple[str, LostReason]] = []

    def opened(self, connection: object) -> None:
        self.stands.append(connection.address.host)  # type: ignore[attr-defined]

    def lost(self, connection: object, reason: LostReason) -> None:
        self.failed.append((connection.address.host, reason))  # type: ignore[attr-defined]

    def writable(self, connection: object) -> None: ...
    def answered(self, connection: object, frame: bytes) -> None: ...
    def received(self, sender: object, frame: bytes, source_host: str | None) -> None: ...
    def refused(self, cause: object, source: str) -> None: ...


async def test_a_name_server_that_does_not_answer_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def ask(host: str, port: int) -> Sequence[Address]:
        answers.wait(30)
        if host == "nowhere.internal":
            raise OSError("no such host")
        return [Address("127.0.0.1", port)]

    monkeypatch.setattr(lookup, "_ask_system", ask)
    listener = Listener()
    transport = ZeroMqTransport(Address("127.0.0.1", 0))
    try:
        bound = await transport.bind()
        transport.open(listener)
        transport.dial(Address("somewhere.internal", bound.port))
        transport.dial(Address("nowhere.internal", bound.port))
        given_up = transport.dial(Address("given-up.internal", bound.port))
        transport.dial(bound)
        await eventually(lambda: listener.stands == ["127.0.0.1"])
        given_up.close()
        answers.set()
        await eventually(lambda: listener.stands == ["127.0.0.1", "somewhere.internal"])
        await eventually(lambda: listener.failed == [("nowhere.internal", LostReason.UNREACHABLE)])
    finally:
        answers.set()
        await transport.stop()
