"""Three nodes of an example on this machine: `make example NAME=django`, or `python examples/three_nodes.py django`.

Each node is `litecast run --config EXAMPLE/config.toml -- EXAMPLE/serve`, with a name, addresses and a folder of its
own in the environment. Ctrl-C stops all. With names of nodes after the example's, only those are started: kill one, and
start it again while the others go on.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = ("django", "django-accounts", "flask", "flask-accounts", "node")
WITH_ONE_WRITER = ("django-accounts", "flask-accounts")
NAMES = ("alpha", "beta", "gamma")
REGIONS = {"alpha": "ams", "beta": "iad", "gamma": "syd"}
LATENCIES = ("ams-iad=90", "ams-syd=270", "iad-syd=200")
"""With --fly: round trips between the regions, in milliseconds."""
READY_WITHIN_S = 60.0


class Node:
    """One node: where it listens, where its data lies, its process."""

    def __init__(self, example: str, name: str, first_port: int, data: Path, *, fly: bool) -> None:
        number = NAMES.index(name)
        self.name = name
        self.program_url = f"http://127.0.0.1:{first_port + number}"
        self.url = f"http://127.0.0.1:{first_port + 10 + number}"
        self.folder = data / name
        bus_ports = [first_port + 20 + each for each in range(len(NAMES))]
        self._command = [_litecast(), "run", "--config", HERE / example / "config.toml", "--", HERE / example / "serve"]
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LITECAST_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PORT": str(first_port + number),
            "LITECAST_NODE__NAME": name,
            "LITECAST_NODE__DATA_DIR": str(self.folder),
            "LITECAST_HTTP__BIND": self.url.removeprefix("http://"),
            "LITECAST_BUS__BIND": f"127.0.0.1:{bus_ports[number]}",
            "LITECAST_DISCOVERY__PEERS": ",".join(f"127.0.0.1:{port}" for port in bus_ports),
        }
        if fly:
            self._environment |= {"FLY_MACHINE_ID": name, "FLY_REGION": REGIONS[name]}
        if example in WITH_ONE_WRITER:
            lease = data / "lease"
            lease.mkdir(parents=True, exist_ok=True)
            self._environment["LITECAST_LEASE__URL"] = f"file://{lease}"
            self._environment["LITECAST_HTTP__PROGRAM"] = f"127.0.0.1:{first_port + number}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """In a session of its own: Ctrl-C is for this launcher, which then stops its nodes in order."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_it_serves(self) -> None:
        """The node says that its program runs; the program itself answers a moment later."""
        for url in (f"{self.url}/readyz", self.program_url):
            deadline = time.monotonic() + READY_WITHIN_S
            while not _answers(url):
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{self.name} does not serve: {self.folder / 'log'} says why")
                time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, which `litecast run` passes on."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


def main() -> None:
    """Starts the nodes, says where they are, and waits."""
    parser = argparse.ArgumentParser(description="Three nodes of an example on this machine.")
    parser.add_argument("example", choices=EXAMPLES)
    parser.add_argument("nodes", nargs="*", metavar="NODE", help=f"only these: {', '.join(NAMES)}")
    parser.add_argument("--port", type=int, default=8000, help="the first of the ports that are used (default 8000)")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="where databases and logs lie (default EXAMPLE/data)"
    )
    parser.add_argument(
        "--fly", action="store_true", help="as on Fly: a region for each node, and a proxy in front of them (dev-proxy)"
    )
    args = parser.parse_args()
    if unknown := set(args.nodes) - set(NAMES):
        parser.error(f"no node is named {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    data = (args.data or HERE / args.example / "data").absolute()
    nodes = [Node(args.example, name, args.port, data, fly=args.fly) for name in args.nodes or NAMES]
    proxy: subprocess.Popen[bytes] | None = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_until_it_serves()
            assert node.process is not None
            print(
                f"{node.name:6} program {node.program_url}  live page {node.url}/cluster  "
                f"database {node.folder / 'litecast.db'}  process {node.process.pid}",
                flush=True,
            )
        if args.fly:
            proxy = _proxy(args.port, data)
        print("Ctrl-C stops them.", flush=True)
        for node in nodes:
            assert node.process is not None
            node.process.wait()
    except KeyboardInterrupt:
        print()
    finally:
        for node in nodes:
            node.stop()
        if proxy is not None:
            proxy.terminate()
            proxy.wait()
        for node in nodes:
            if node.process is not None:
                node.process.wait()


def _proxy(first_port: int, data: Path) -> "subprocess.Popen[bytes]":
    """In front of the programs of all nodes, whichever run. Clients are in ams, or where their fly-region says."""
    address = f"127.0.0.1:{first_port + 30}"
    nodes = [f"--node=127.0.0.1:{first_port + 10 + number}" for number in range(len(NAMES))]
    latencies = [f"--latency={one}" for one in LATENCIES]
    command = [_litecast(), "dev-proxy", "--programs", "--bind", address, "--region", "ams", *nodes, *latencies]
    with (data / "proxy-log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + READY_WITHIN_S
    while not _answers(f"http://{address}/"):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the proxy does not serve: {data / 'proxy-log'} says why")
        time.sleep(0.05)
    print(f"proxy  http://{address}  in front of the programs, as Fly's is  log {data / 'proxy-log'}", flush=True)
    return process


def _litecast() -> str:
    beside = Path(sys.executable).with_name("litecast")
    return str(beside) if beside.exists() else shutil.which("litecast") or "litecast"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return False
    except OSError:
        return False


if __name__ == "__main__":
    main()
