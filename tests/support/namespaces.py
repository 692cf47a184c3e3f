"""Network namespaces of the tests: each node in a network of its own, and a router between them that drops packets.

    node a ---+
    node b ---+--- router --- this machine
    node c ---+

Packets vanish in the router, so that nobody is told: not the sender, whose writes succeed, and not the receiver. Needs
root; whatever was made is gone with the namespaces."""

import random
import subprocess
from collections.abc import Iterable

_BLOCK = "198.18"  # set aside for measuring networks: nobody's own


class Namespaces:
    """One network for each name. Used as a context."""

    def __init__(self, names: Iterable[str]) -> None:
        self._token = f"lct{random.randrange(10**6)}"
        self._third = random.randrange(256)
        self._places = {name: place for place, name in enumerate(names, start=1)}
        self._router = f"{self._token}r"

    def __enter__(self) -> "Namespaces":
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def address(self, name: str) -> str:
        """Where the node is reached, by the others and from this machine."""
        return f"{_BLOCK}.{self._third}.{4 * self._places[name] + 2}"

    def command(self, name: str) -> list[str]:
        """What comes before a command to run it in the node's network."""
        return ["ip", "netns", "exec", self._namespace(name)]

    def drop(self, one: str, other: str) -> None:
        """From now on nothing that `one` sends reaches `other`. The other way is as it was."""
        _ip("-n", self._router, "rule", "add", "from", self.address(one), "to", self.address(other), "blackhole")

    def separate(self, name: str) -> None:
        """Nothing passes between the node and the others, either way."""
        for other in self._others(name):
            self.drop(name, other)
            self.drop(other, name)

    def heal(self) -> None:
        """Everything passes, everywhere."""
        for one in self._places:
            _ip("-n", self._router, "link", "set", f"to-{one}", "up")
            for other in self._others(one):
                rule = ("from", self.address(one), "to", self.address(other), "blackhole")
                while _is_done("-n", self._router, "rule", "del", *rule):
                    pass

    def unplug(self, name: str) -> None:
        """The node's cable is out: this machine does not reach it either."""
        _ip("-n", self._router, "link", "set", f"to-{name}", "down")

    def _others(self, name: str) -> list[str]:
        return [other for other in self._places if other != name]

    def _namespace(self, name: str) -> str:
        return f"{self._token}{name}"

    def _make(self) -> None:
        here = f"{self._token}h"
        _ip("netns", "add", self._router)
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        _run("ip", "netns", "exec", self._router, "sh", "-c", forward)
        _ip("link", "add", here, "type", "veth", "peer", "name", "to-here", "netns", self._router)
        self._wire(here, "to-here", 0, [])
        _ip("route", "add", f"{_BLOCK}.{self._third}.0/24", "via", f"{_BLOCK}.{self._third}.1")
        for name, place in self._places.items():
            inside = ["-n", self._namespace(name)]
            _ip("netns", "add", self._namespace(name))
            _ip("link", "add", "cable", "netns", self._namespace(name), "type", "veth",
                "peer", "name", f"to-{name}", "netns", self._router)  # fmt: skip
            _ip(*inside, "link", "set", "lo", "up")
            self._wire("cable", f"to-{name}", place, inside)
            _ip(*inside, "route", "add", "default", "via", f"{_BLOCK}.{self._third}.{4 * place + 1}")

    def _wire(self, near: str, far: str, place: int, inside: list[str]) -> None:
        """Two ends of a cable get an address each."""
        for device, last, where in ((far, 4 * place + 1, ["-n", self._router]), (near, 4 * place + 2, inside)):
            _ip(*where, "address", "add", f"{_BLOCK}.{self._third}.{last}/30", "dev", device)
            _ip(*where, "link", "set", device, "up")

    def _remove(self) -> None:
        for namespace in (self._router, *map(self._namespace, self._places)):
            _is_done("netns", "delete", namespace)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


def _is_done(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True, timeout=20).returncode == 0
