"""Real `litecast node` processes for tests: started from a config file, asked over HTTP, always ended."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECRET = "the secret of the tests, long enough to be one"
READY_WITHIN_S = 20.0


def free_port() -> int:
    """A TCP port on loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections at this TCP port on loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class NodeProcess:
    """One node: its folder, its settings, its process."""

    def __init__(self, folder: Path, name: str, **settings: Any) -> None:
        """`settings` are `section__key=value`, over defaults that let nodes of one test talk to each other."""
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.bus_port = free_port()
        self.http_port = free_port()
        self.settings: dict[str, Any] = {
            "node__name": name,
            "node__data_dir": str(self.folder / "data"),
            "bus__bind": f"tcp://127.0.0.1:{self.bus_port}",
            "bus__secret": SECRET,
            "replication__mode": "naive",
            "http__bind": f"127.0.0.1:{self.http_port}",
            **settings,
        }
        self.config_file = self.folder / "config.toml"
        self.log_file = self.folder / "log"
        self.command = [sys.executable, "-m", "app", "node", "--config", str(self.config_file)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        return Path(self.settings.get("database__path", self.folder / "data" / "litecast.db"))

    @property
    def pid(self) -> int | None:
        """Of its process, if that has not ended."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    @property
    def bus_address(self) -> str:
        return str(self.settings["bus__bind"]).removeprefix("tcp://")

    @property
    def url(self) -> str:
        return f"http://{self.settings['http__bind']}"

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def start(self) -> None:
        """Write the config and start the process."""
        self.config_file.write_text(_toml(self.settings))
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_and_wait(self) -> None:
        """Start it and wait until it is ready."""
        self.start()
        self.until(lambda: self.get("/readyz")[0] == 200)

    def ended(self, within_s: float = 10.0) -> int:
        """Wait for the process to end by itself; its exit status."""
        assert self._process is not None
        return self._process.wait(within_s)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> float:
        """SIGTERM; how many seconds it took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        assert self.ended() == 0, self.log
        return time.monotonic() - began

    def close(self) -> None:
        """End it whatever it does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)

    def until(self, condition: Callable[[], bool], within_s: float = READY_WITHIN_S) -> None:
        """Wait until the condition holds, while the process lives."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert self._process is not None
            assert self._process.poll() is None, f"{self.name} ended with {self._process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"{self.name} did not come so far:\n{self.log}"
            time.sleep(0.02)

    def get(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Status and JSON of a request; status 0 if nobody answers, or not to the end: it was killed, say."""
        request = urllib.request.Request(self.url + path, method=method)
        try:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                return error.code, json.loads(error.read())
        except (OSError, http.client.HTTPException):
            return 0, None

    def count_view(self, page: str) -> tuple[int, Any]:
        return self.get(f"/api/pages/{page}/views", "POST")

    def cluster(self) -> Any:
        return self.get("/api/cluster")[1]

    def peers_up(self) -> set[str]:
        found = self.cluster()
        return {peer["name"] for peer in found["peers"] if peer["state"] == "up"} if found else set()

    def counter(self, cause: str) -> int:
        found = self.cluster()
        return int(found["counters"].get(cause, 0)) if found else 0


@contextlib.contextmanager
def node_processes(folder: Path) -> Iterator[Callable[..., NodeProcess]]:
    """A maker of nodes; whatever it made is ended afterwards."""
    made: list[NodeProcess] = []

    def make(name: str, **settings: Any) -> NodeProcess:
        made.append(NodeProcess(folder, name, **settings))
        return made[-1]

    try:
        yield make
    finally:
        for node in made:
            node.close()


def _toml(settings: dict[str, Any]) -> str:
    sections: dict[str, list[str]] = {}
    for key, value in settings.items():
        section, _, name = key.partition("__")
        sections.setdefault(section, []).append(f"{name} = {_toml_value(value)}")
    return "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items()) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {json.dumps(one)}' for key, one in value.items())} }}"
    return json.dumps(value)
