"""DNS discovery against a real server: what it finds, and what faults of name servers cost it."""

import asyncio
import logging
from pathlib import Path
from random import Random

import dns.name
import pytest

from cluster.address import Address
from cluster.discovery.dns import DnsDiscovery, names_to_ask
from tests.support.candidates import running
from tests.support.dns_server import DnsServer, Fault, Question

PORT = 7400
INTERVAL_S = 0.02


class Failed:
    """Counts failed and empty answers, and waits for them."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def one_more(self) -> None:
        self.count += 1
        self._changed.set()

    async def times(self, count: int) -> None:
        async with asyncio.timeout(10):
            while self.count < count:
                self._changed.clear()
                await self._changed.wait()


def discovery(
    server: DnsServer,
    name: str,
    *,
    own: Address | None = None,
    failed: Failed | None = None,
    answer_timeout_s: float = 3.0,
) -> DnsDiscovery:
    return DnsDiscovery(
        name,
        PORT,
        own=own,
        poll_interval_s=INTERVAL_S,
        log=logging.getLogger("test.discovery"),
        random=Random(1),
        count_failure=(failed or Failed()).one_more,
        nameserver=Address(server.host, server.port),
        answer_timeout_s=answer_timeout_s,
    )


def at(*hosts: str) -> set[Address]:
    return {Address(host, PORT) for host in hosts}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_fly_app_is_found_by_its_aaaa_records(host: str) -> None:
    async with DnsServer(host) as server:
        server.set("counter.internal.", "AAAA", "fdaa::a", "fdaa::b", "fdaa::c")
        async with running(discovery(server, "counter.internal")) as candidates:
            await candidates.times(1)
    assert set(candidates.calls[0]) == at("fdaa::a", "fdaa::b", "fdaa::c")
    assert {question.name for question in server.questions} == {"counter.internal."}


async def test_a_compose_service_is_found_by_its_a_records_and_the_ttl_is_not_heeded() -> None:
    async with DnsServer() as server:
        server.set("node.", "A", "172.18.0.2")
        async with running(discovery(server, "node")) as candidates:
            await candidates.includes(*at("172.18.0.2"))
            server.set("node.", "A", "172.18.0.3")  # scaled up, and the first one killed
            await candidates.includes(*at("172.18.0.3"))
    assert candidates.calls[-1] == [Address("172.18.0.3", PORT)]


async def test_both_kinds_of_records_are_candidates_and_an_alias_is_followed() -> None:
    async with DnsServer() as server:
        server.set("nodes.example.", "CNAME", "real.example.")
        server.set("real.example.", "A", "10.0.0.1", "10.0.0.2")
        server.set("real.example.", "AAAA", "2001:db8::1")
        async with running(discovery(server, "nodes.example.")) as candidates:
            await candidates.includes(*at("10.0.0.1", "10.0.0.2", "2001:db8::1"))


async def test_the_node_itself_joins_an_answer_that_does_not_list_it_yet() -> None:
    own = Address("fdaa::a", PORT)
    async with DnsServer() as server:
        server.set("counter.internal.", "AAAA", "fdaa::b")
        async with running(discovery(server, "counter.internal", own=own)) as candidates:
            await candidates.times(1)
            assert candidates.calls[0] == [Address("fdaa::b", PORT), own]
            server.set("counter.internal.", "AAAA", "fdaa:0:0::a")
            asked = len(server.questions)
            await server.asked(asked + 4)
    assert candidates.calls[-1] == [own]


async def test_a_place_to_listen_at_is_not_added_as_the_node_itself() -> None:
    async with DnsServer() as server:
        server.set("node.", "A", "10.0.0.1")
        async with running(discovery(server, "node", own=Address("::", PORT))) as candidates:
            await candidates.times(1)
    assert candidates.all == at("10.0.0.1")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (None, "node: no addresses"),
        (Fault.NXDOMAIN, "node: no such name"),
        (Fault.SERVFAIL, "SERVFAIL"),
        (Fault.SILENCE, "node: no answer within 0.3 s"),
        (Fault.GARBAGE, "node: no answer within 0.3 s"),
        (Fault.TRUNCATED_EVEN_OVER_TCP, "node:"),
    ],
)
async def test_an_empty_or_failed_answer_is_no_news_and_the_asking_goes_on(
    fault: Fault | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    failed = Failed()
    async with DnsServer() as server:
        for kind in ("A", "AAAA"):
            server.set("node.", kind)
            if fault is not None:
                server.fail("node.", kind, fault)
        own = Address("10.0.0.9", PORT)
        asking = discovery(server, "node", own=own, failed=failed, answer_timeout_s=0.3)
        async with running(asking) as candidates:
            await failed.times(3)
            assert candidates.calls == []
            server.set("node.", "A", "10.0.0.1")
            await candidates.includes(*at("10.0.0.1"))
    told = [message for message in caplog.messages if "found nobody" in message]
    assert len(told) == 1  # of three or more failures
    assert reason in told[0]
    assert len(told[0].splitlines()) == 1


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("kind", ["A", "AAAA"])
async def test_a_fault_of_one_kind_does_not_spoil_the_other(kind: str, fault: Fault) -> None:
    failed = Failed()
    async with DnsServer() as server:
        server.set("node.", "A", "10.0.0.1")
        server.set("node.", "AAAA", "fdaa::1")
        server.fail("node.", kind, fault)
        async with running(discovery(server, "node", failed=failed, answer_timeout_s=0.3)) as candidates:
            await candidates.times(2)
    assert candidates.all == at("fdaa::1" if kind == "A" else "10.0.0.1")
    assert failed.count == 0


async def test_both_kinds_are_asked_at_the_same_time() -> None:
    async with DnsServer() as server:
        server.fail("node.", "A", Fault.SILENCE)
        server.fail("node.", "AAAA", Fault.SILENCE)
        async with running(discovery(server, "node", answer_timeout_s=60)):
            await server.asked(1, "A")
            await server.asked(1, "AAAA")
            assert len(server.questions) == 2


async def test_an_answer_of_forty_nodes_comes_in_one_datagram_and_a_larger_one_over_tcp() -> None:
    def hosts(count: int) -> list[str]:
        return [f"fdaa::{number:x}" for number in range(1, count + 1)]

    async with DnsServer("::1") as server:
        server.set("counter.internal.", "AAAA", *hosts(40))
        async with running(discovery(server, "counter.internal")) as candidates:
            await candidates.includes(*at(*hosts(40)))
            assert {question.over for question in server.questions} == {"udp"}
            server.set("counter.internal.", "AAAA", *hosts(500))
            await candidates.includes(*at(*hosts(500)))
    assert Question(name="counter.internal.", kind="AAAA", over="tcp") in server.questions


async def test_an_unreachable_name_server_is_no_news() -> None:
    failed = Failed()
    server = DnsServer()
    async with server:
        pass  # its port is free again, and nobody is there
    async with running(discovery(server, "node", failed=failed, answer_timeout_s=0.1)) as candidates:
        await failed.times(2)
    assert candidates.calls == []


async def test_addresses_that_mean_nobody_are_no_candidates() -> None:
    failed = Failed()
    async with DnsServer() as server:
        server.set("node.", "A", "0.0.0.0")
        server.set("node.", "AAAA", "::")
        async with running(discovery(server, "node", failed=failed)) as candidates:
            await failed.times(1)
            server.set("node.", "A", "0.0.0.0", "10.0.0.1")
            await candidates.times(1)
    assert candidates.all == at("10.0.0.1")


async def test_a_cancelled_search_ends_at_once_even_in_the_middle_of_a_question() -> None:
    async with DnsServer() as server:
        server.fail("node.", "A", Fault.SILENCE)
        server.fail("node.", "AAAA", Fault.SILENCE)
        task = asyncio.create_task(discovery(server, "node", answer_timeout_s=60).run(lambda _: None))
        await server.asked(2)
        task.cancel()
        async with asyncio.timeout(0.5):
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_a_machine_without_a_usable_resolver_goes_on_trying(tmp_path: Path) -> None:
    failed = Failed()
    asking = DnsDiscovery(
        "node",
        PORT,
        own=None,
        poll_interval_s=INTERVAL_S,
        log=logging.getLogger("test.discovery"),
        random=Random(1),
        count_failure=failed.one_more,
        resolv_conf=tmp_path / "resolv.conf",
    )
    async with running(asking) as candidates:
        await failed.times(1)
        (tmp_path / "resolv.conf").write_text("# nothing here\n")
        await failed.times(failed.count + 2)
        (tmp_path / "resolv.conf").write_text("nameserver not-an-address\n")
        await failed.times(failed.count + 2)
    assert candidates.calls == []


async def test_the_systems_resolver_is_asked_for_a_service_name_as_it_stands_and_then_in_its_domains(
    tmp_path: Path,
) -> None:
    """`resolv.conf` names no ports, so this needs the right to listen at port 53."""
    server = DnsServer("127.0.0.53", 53)
    try:
        await server.__aenter__()
    except OSError as error:
        pytest.skip(f"cannot listen at port 53 of 127.0.0.53: {error}")
    try:
        (tmp_path / "resolv.conf").write_text("search svc.cluster.test\nnameserver 127.0.0.53\noptions ndots:5\n")
        asking = DnsDiscovery(
            "node",
            PORT,
            own=None,
            poll_interval_s=INTERVAL_S,
            log=logging.getLogger("test.discovery"),
            random=Random(1),
            count_failure=lambda: None,
            resolv_conf=tmp_path / "resolv.conf",
        )
        server.set("node.svc.cluster.test.", "A", "10.0.0.1")
        async with running(asking) as candidates:
            await candidates.includes(*at("10.0.0.1"))
            server.set("node.", "A", "172.18.0.2")
            await candidates.includes(*at("172.18.0.2"))
            server.fail("node.svc.cluster.test.", "A", Fault.SILENCE)  # a domain out of reach does no harm
            await candidates.times(len(candidates.calls) + 3)
        assert [question.name for question in server.questions][:2] == ["node.", "node."]
    finally:
        await server.__aexit__(None, None, None)


def test_only_a_single_label_is_looked_for_in_search_domains() -> None:
    search = [dns.name.from_text("corp.example."), dns.name.root]

    def asked(name: str) -> list[str]:
        return [asked.to_text() for asked in names_to_ask(name, search)]

    assert asked("node") == ["node.", "node.corp.example."]
    assert asked("node.") == ["node."]
    assert asked("counter.internal") == ["counter.internal."]
    assert asked("yyz.counter.internal.") == ["yyz.counter.internal."]
