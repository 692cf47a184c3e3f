"""How addresses are read, written and told apart."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.address import PORT_MAX, Address, parse_address
from cluster.errors import AddressError

LABELS = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9_])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join).filter(lambda name: not name.split(".")[-1].isdigit())
ZONED = st.ip_addresses(v=6, network="fe80::/10").map(lambda ip: f"{ip}%eth0")
HOSTS = st.one_of(st.just("*"), NAMES, st.ip_addresses().map(str), ZONED)
ADDRESSES = st.builds(Address, HOSTS, st.integers(0, PORT_MAX))


@given(ADDRESSES)
def test_what_an_address_writes_reads_as_the_same_address(address: Address) -> None:
    assert parse_address(str(address)) == address
    assert parse_address(address.host_and_port) == address
    assert parse_address(address.host_and_port, default_port=1) == address


@given(st.one_of(st.text(), st.text(alphabet="0123456789abcfx:[]%./-*tcp \n")))
@example("tcp://")
@example("[::1%]]:1")
@example("\N{FULLWIDTH DIGIT ONE}:\N{FULLWIDTH DIGIT ONE}")
@example("a:" + "9" * 5000)
def test_any_text_is_an_address_or_one_typed_error_in_one_line(text: str) -> None:
    address, refusal = None, ""
    try:
        address = parse_address(text)
    except AddressError as error:
        refusal = str(error)
    if address is None:
        assert len(refusal.splitlines()) == 1
        assert "HOST:PORT" in refusal
    else:
        assert parse_address(str(address)) == address


@given(st.text(), st.integers(-10, PORT_MAX + 10))
def test_any_host_and_port_make_an_address_that_reads_back_or_the_same_error(host: str, port: int) -> None:
    try:
        address = Address(host, port)
    except AddressError:
        return
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7400", "127.0.0.1", 7400),
        ("tcp://127.0.0.1:7400", "127.0.0.1", 7400),
        ("TCP://Node-1.Example:7400", "node-1.example", 7400),
        ("node:1", "node", 1),
        ("my_app.internal.:7400", "my_app.internal.", 7400),
        ("[::1]:7400", "::1", 7400),
        ("tcp://[::]:7400", "::", 7400),
        ("[FDAA:0:0::3]:53", "fdaa::3", 53),
        ("[fe80::1%eth0]:7400", "fe80::1%eth0", 7400),
        ("*:7400", "*", 7400),
        ("127.0.0.1:0", "127.0.0.1", 0),
        (" localhost:7400\n", "localhost", 7400),
    ],
)
def test_every_documented_form_is_read(text: str, host: str, port: int) -> None:
    assert parse_address(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has no port"),
        ("node", "it has no port"),
        ("node:", "'' is not a port number"),
        ("node:http", "'http' is not a port number"),
        ("node:-1", "'-1' is not a port number"),
        ("node:65536", "65536 is not a port"),
        ("node:7_400", "not a port number"),
        (":7400", "'' is not a host name"),
        ("a..b:7400", "'a..b' is not a host name"),
        ("-a:7400", "not a host name"),
        ("a b:7400", "not a host name"),
        ("256.0.0.1:7400", "'256.0.0.1' is not an IPv4 address"),
        ("127.1:7400", "'127.1' is not an IPv4 address"),
        ("::1:7400", "no brackets around an IPv6 host"),
        ("[::1]7400", "the port must follow them"),
        ("[::1:7400", "the brackets must hold the host"),
        ("[node]:7400", "only an IPv6 address stands in brackets"),
        ("[::g]:7400", "'::g' is not a host name or IP address"),
        ("http://node:7400", "the bus speaks tcp, not 'http'"),
        ("ipc:///tmp/bus", "the bus speaks tcp, not 'ipc'"),
    ],
)
def test_an_error_names_the_text_the_fault_and_the_right_form(text: str, why: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    message = str(caught.value)
    assert message.startswith(repr(text))
    assert why in message
    assert "write HOST:PORT or tcp://HOST:PORT" in message


def test_a_default_port_stands_in_for_a_missing_one_only() -> None:
    assert parse_address("node", default_port=7400) == Address("node", 7400)
    assert parse_address("[::1]", default_port=7400) == Address("::1", 7400)
    assert parse_address("node:7401", default_port=7400) == Address("node", 7401)
    with pytest.raises(AddressError):
        parse_address("node:", default_port=7400)


def test_the_written_form_is_what_the_bus_takes() -> None:
    assert str(Address("127.0.0.1", 7400)) == "tcp://127.0.0.1:7400"
    assert str(Address("fdaa:0::3", 7400)) == "tcp://[fdaa::3]:7400"
    assert str(Address("*", 7400)) == "tcp://*:7400"


def test_wildcards_and_loopbacks_are_known() -> None:
    assert {host for host in ("0.0.0.0", "::", "*", "127.0.0.1", "node") if Address(host, 1).is_wildcard} == {
        "0.0.0.0",
        "::",
        "*",
    }
    loopbacks = ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST.")
    assert all(Address(host, 1).is_loopback for host in loopbacks)
    elsewhere = ("0.0.0.0", "::", "*", "10.0.0.1", "fdaa::3", "localhost.example", "node")
    assert not any(Address(host, 1).is_loopback for host in elsewhere)


@given(st.ip_addresses(v=6))
def test_one_ipv6_address_in_two_notations_is_one_address(ip: ipaddress.IPv6Address) -> None:
    assert Address(ip.exploded.upper(), 1) == Address(ip.compressed, 1)
