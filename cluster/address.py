"""Where a node listens or is reached: a host and a TCP port, and their one way of being written.

An address is never an identity. It says where to knock; who opens is known from the peer's `HELLO`.
"""

import ipaddress
import re
from dataclasses import dataclass

from cluster.errors import AddressError

PORT_MAX = 65535
_SHOWN_MAX_CHARACTERS = 80  # of a wrong text in an error, which stays one line
_FORMS = "write HOST:PORT or tcp://HOST:PORT, an IPv6 address in brackets as in [fdaa::3]:7400"

# Underscores are no part of the host name standard, but container and service names have them.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ZONE = re.compile(r"[A-Za-z0-9._-]{1,32}")
_NAME_MAX_CHARACTERS = 253


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name, IPv4, IPv6, or `*` for every interface) and a TCP port; port 0 is any free one, to listen at.

    The host is kept in its canonical form (lower case, the shortest IPv6 form), so that equal addresses compare equal.
    Raises AddressError if the host or the port cannot be one.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= PORT_MAX:
            raise AddressError(f"{self.port} is not a port; it must be between 1 and {PORT_MAX}")
        object.__setattr__(self, "host", _canonical_host(self.host))

    def __str__(self) -> str:
        return f"tcp://{self.host_and_port}"

    @property
    def host_and_port(self) -> str:
        """`host:port`, with an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_ip(self) -> bool:
        """The host is an IPv4 or IPv6 address, not a name to look up and not `*`."""
        return _as_ip(self.host) is not None

    @property
    def is_wildcard(self) -> bool:
        """Every interface: a place to listen at, which nobody can dial."""
        ip = _as_ip(self.host)
        return self.host == "*" if ip is None else ip.is_unspecified

    @property
    def is_loopback(self) -> bool:
        """Reachable from this machine alone: 127.0.0.0/8, ::1, or the name `localhost`."""
        ip = _as_ip(self.host)
        return self.host in ("localhost", "localhost.") if ip is None else ip.is_loopback


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """Read `HOST:PORT` or `tcp://HOST:PORT`; the port may be left out if there is a `default_port`.

    An IPv6 host stands in brackets, always: in `::1:7400` nobody can tell where the host ends. Raises AddressError,
    whose one line names the text and the right form.
    """
    scheme, found, rest = text.strip().rpartition("://")
    if found and scheme.lower() != "tcp":
        raise _wrong(text, f"the bus speaks tcp, not {_shown(scheme)}")
    host, port_text = _split(text, rest)
    if port_text is None:
        if default_port is None:
            raise _wrong(text, "it has no port")
        port = default_port
    elif port_text.isascii() and port_text.isdigit() and len(port_text) <= len(str(PORT_MAX)):
        port = int(port_text)
    else:
        raise _wrong(text, f"{_shown(port_text)} is not a port number")
    try:
        return Address(host, port)
    except AddressError as error:
        raise _wrong(text, str(error)) from None


def _split(text: str, rest: str) -> tuple[str, str | None]:
    """Host (without brackets) and port of what follows the scheme; the port is None if there is no colon for it."""
    if rest.startswith("["):
        host, closed, after = rest[1:].partition("]")
        if not closed or (after and not after.startswith(":")):
            raise _wrong(text, "the brackets must hold the host, and the port must follow them")
        if ":" not in host:
            raise _wrong(text, "only an IPv6 address stands in brackets")
        return host, after[1:] if after else None
    host, colon, port = rest.partition(":")
    if ":" in port:
        raise _wrong(text, "it has more than one colon, and no brackets around an IPv6 host")
    return host, port if colon else None


def _canonical_host(host: str) -> str:
    """The host in its one form; raises AddressError if it is none."""
    if host == "*":
        return host
    ip = _as_ip(host)
    if ip is not None:
        return str(ip)
    name = host.lower()
    labels = name.removesuffix(".").split(".")
    if len(name) > _NAME_MAX_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(f"{_shown(host)} is not a host name or IP address")
    if labels[-1].isdigit():  # no top-level domain is a number, so this was meant to be an IPv4 address
        raise AddressError(f"{_shown(host)} is not an IPv4 address")
    return name


def _as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None and not _ZONE.fullmatch(ip.scope_id):
        return None
    return ip


def _wrong(text: str, why: str) -> AddressError:
    return AddressError(f"{_shown(text)} is not an address: {why}; {_FORMS}")


def _shown(text: str) -> str:
    cut = text if len(text) <= _SHOWN_MAX_CHARACTERS else text[:_SHOWN_MAX_CHARACTERS] + "…"
    return repr(cut)
