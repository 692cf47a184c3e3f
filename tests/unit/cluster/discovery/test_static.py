"""The list of peers: what is passed on as it is, and what is looked up."""

import asyncio
import logging
from collections.abc import Sequence
from random import Random

import pytest

from cluster.address import Address
from cluster.discovery.lookup import look_up
from cluster.discovery.static import StaticDiscovery
from cluster.errors import DiscoveryError
from tests.support.candidates import Candidates, running

IP = Address("127.0.0.1", 7401)


class Names:
    """A resolver: host name to the answers of successive look-ups, the last one for ever."""

    def __init__(self, **answers: list[list[str] | OSError | None]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answers = self._answers[host]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, OSError):
            raise answer
        return [Address(ip, port) for ip in answer or []]


def static(*peers: Address, names: Names | None = None) -> StaticDiscovery:
    return StaticDiscovery(
        peers,
        poll_interval_s=0.001,
        log=logging.getLogger("test.discovery"),
        random=Random(1),
        count_failure=lambda: None,
        lookup=names or Names(),
    )


async def test_ip_addresses_are_passed_on_once_and_looked_up_never() -> None:
    v6 = Address("::1", 7402)
    names = Names(node=[["10.0.0.1"]])
    async with running(static(IP, v6, IP, Address("node", 7400), names=names)) as candidates:
        await candidates.times(5)
    assert candidates.calls[0] == [IP, v6]
    assert all(call == [Address("10.0.0.1", 7400)] for call in candidates.calls[1:])
    assert set(names.asked) == {"node"}


async def test_all_addresses_of_a_name_are_candidates_and_new_ones_are_found_later() -> None:
    names = Names(node=[["10.0.0.1", "fdaa::1"], ["10.0.0.2"]])
    async with running(static(Address("node", 7400), names=names)) as candidates:
        await candidates.includes(*(Address(ip, 7400) for ip in ("10.0.0.1", "fdaa::1", "10.0.0.2")))


async def test_a_name_that_is_not_known_yet_is_asked_for_again() -> None:
    names = Names(node=[OSError(-2, "Name or service not known"), ["10.0.0.1"]])
    async with running(static(Address("node", 7400), names=names)) as candidates:
        await candidates.includes(Address("10.0.0.1", 7400))


async def test_a_name_that_gets_no_answer_holds_up_no_other() -> None:
    names = Names(slow=[None], quick=[["10.0.0.1"]])
    async with running(static(Address("slow", 7400), Address("quick", 7400), names=names)) as candidates:
        await candidates.includes(Address("10.0.0.1", 7400))


async def test_a_failed_look_up_is_logged_with_name_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    names = Names(node=[OSError(-2, "Name or service not known"), ["10.0.0.1"]])
    async with running(static(Address("node", 7400), names=names)) as candidates:
        await candidates.times(1)
    assert "node: Name or service not known" in caplog.text


async def test_an_empty_list_finds_nobody_and_runs_until_cancelled() -> None:
    candidates = Candidates()
    task = asyncio.create_task(static().run(candidates.found))
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    assert candidates.calls == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("peer", [Address("*", 7400), Address("::", 7400), Address("127.0.0.1", 0)])
def test_a_place_to_listen_at_is_refused_as_a_peer(peer: Address) -> None:
    with pytest.raises(DiscoveryError, match="cannot be dialled"):
        static(peer)


async def test_localhost_is_looked_up_by_the_system() -> None:
    addresses = await look_up("localhost", 7400)
    assert addresses
    assert all(address.is_loopback and address.is_ip and address.port == 7400 for address in addresses)
    assert len(set(addresses)) == len(addresses)


async def test_a_name_that_the_system_refuses_is_an_os_error() -> None:
    with pytest.raises(OSError, match="label"):
        await look_up("x" * 64, 7400)


async def test_a_cancelled_look_up_ends_at_once() -> None:
    task = asyncio.create_task(look_up("no-such-host.invalid", 7400))
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(0.5):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_static_method_finds_localhost_for_real() -> None:
    discovery = StaticDiscovery(
        [Address("localhost", 7400)],
        poll_interval_s=5.0,
        log=logging.getLogger("test.discovery"),
        random=Random(1),
        count_failure=lambda: None,
    )
    async with running(discovery) as candidates:
        await candidates.times(1)
    assert all(address.is_loopback for address in candidates.all)
