"""A DNS server for tests: real datagrams and streams on a real port, answers and faults as the test sets them.

In a test: `async with DnsServer("::1") as server: server.set("node.", "A", "10.0.0.1")`. As a process of its own:
`python -m tests.support.dns_server 127.0.0.1 5353 app.internal=fdaa::3 app.internal=fdaa::4`.
"""

import argparse
import asyncio
import contextlib
import enum
import ipaddress
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TTL_S = 600  # as Docker's: whoever heeds it does not see a new container for ten minutes
PLAIN_UDP_MAX_BYTES = 512  # what a question without EDNS allows
TCP_MAX_BYTES = 65535
DEADLINE_S = 10.0


class Fault(enum.Enum):
    """What the server does instead of answering."""

    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    SILENCE = "silence"
    GARBAGE = "garbage"
    TRUNCATED_EVEN_OVER_TCP = "truncated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question that came: an absolute name, a record type, and `udp` or `tcp`."""

    name: str
    kind: str
    over: str


class DnsServer:
    """Answers over UDP and TCP at one port (a free one if 0), while it is entered."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.questions: list[Question] = []
        self._records: dict[tuple[str, str], list[str]] = {}
        self._faults: dict[tuple[str, str], Fault] = {}
        self._asked = asyncio.Event()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    def set(self, name: str, kind: str, *values: str) -> None:
        """From now on the absolute `name` has these records of this kind, and no others of it."""
        self._records[name, kind] = list(values)
        self._faults.pop((name, kind), None)

    def fail(self, name: str, kind: str, fault: Fault) -> None:
        """From now on a question for this name and kind gets `fault`, until records are set."""
        self._faults[name, kind] = fault

    async def asked(self, count: int, kind: str | None = None) -> None:
        """Wait until so many questions (of that kind) came in all; TimeoutError after ten seconds."""
        async with asyncio.timeout(DEADLINE_S):
            while sum(question.kind == kind or kind is None for question in self.questions) < count:
                self._asked.clear()
                await self._asked.wait()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._tcp = await asyncio.start_server(self._serve_stream, self.host, self.port, family=family)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self.host, self.port), family=family
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            await self._tcp.wait_closed()

    def answer(self, wire: bytes, over: str) -> bytes | None:
        """What goes back for the question in `wire`; None for nothing."""
        question = dns.message.from_wire(wire)
        name = question.question[0].name
        kind = dns.rdatatype.to_text(question.question[0].rdtype)
        self.questions.append(Question(name=name.to_text(), kind=kind, over=over))
        self._asked.set()
        reply = dns.message.make_response(question)
        reply.flags |= dns.flags.RA
        match self._faults.get((name.to_text(), kind)):
            case Fault.SILENCE:
                return None
            case Fault.GARBAGE:
                return wire[:2] + b"\xff" * 40  # the right id, and nonsense after it
            case Fault.NXDOMAIN:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            case Fault.SERVFAIL:
                reply.set_rcode(dns.rcode.SERVFAIL)
            case Fault.TRUNCATED_EVEN_OVER_TCP:
                reply.flags |= dns.flags.TC
            case None:
                self._fill(reply, name, kind)
        if over == "tcp":
            return reply.to_wire(max_size=TCP_MAX_BYTES)
        try:
            return reply.to_wire(max_size=max(question.payload, PLAIN_UDP_MAX_BYTES))
        except dns.exception.TooBig:
            cut = dns.message.make_response(question)
            cut.flags |= dns.flags.TC
            return cut.to_wire()

    def _fill(self, reply: dns.message.Message, name: dns.name.Name, kind: str) -> None:
        for _ in range(8):  # a chain of CNAMEs, not a loop of them
            text = name.to_text()
            values = self._records.get((text, kind), [])
            if values:
                reply.answer.append(dns.rrset.from_text(name, TTL_S, dns.rdataclass.IN, kind, *values))
                return
            alias = self._records.get((text, "CNAME"), [])
            if not alias:
                break
            reply.answer.append(dns.rrset.from_text(name, TTL_S, dns.rdataclass.IN, "CNAME", alias[0]))
            name = dns.name.from_text(alias[0])
        if not any(known == name.to_text() for known, _ in self._records):
            reply.set_rcode(dns.rcode.NXDOMAIN)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await reader.readexactly(2))
                reply = self.answer(await reader.readexactly(size), "tcp")
                if reply is not None:
                    writer.write(len(reply).to_bytes(2) + reply)
                    await writer.drain()
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._server.answer(data, "udp")
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


async def _serve(host: str, port: int, records: list[str]) -> None:
    async with DnsServer(host, port) as server:
        listed: dict[tuple[str, str], list[str]] = {}
        for record in records:
            name, _, ip = record.partition("=")
            kind = "AAAA" if ipaddress.ip_address(ip).version == 6 else "A"
            listed.setdefault((name.removesuffix(".") + ".", kind), []).append(ip)
        for (name, kind), ips in listed.items():
            server.set(name, kind, *ips)
        print(f"listening at {server.host} port {server.port}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A DNS server for tests")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("records", nargs="*", metavar="NAME=IP")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.host, options.port, options.records))


if __name__ == "__main__":
    main()
