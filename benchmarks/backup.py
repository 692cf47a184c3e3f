"""The backup, against a real S3 server on this machine: what it costs those who write, how soon a write is in the
bucket, and how long it takes to come back, beside Litestream where that is installed.

Without an S3 server (versitygw) it goes to a folder, and the title says so."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.child import ROOT, ChildFailed
from benchmarks.measuring import AtLeast, AtMost, Benchmark, Comparison, Contestants, Figures
from benchmarks.nodes import Cluster, free_ports
from benchmarks.servers import BUCKET, installed, versitygw
from benchmarks.throughput import INSERT, made_up, make

NODE = "alpha"
INTERVAL_S = 1.0
PACE_PER_S = 1_000
SINCE_PACE_PER_S = 400
"""So slow that each transaction is a changeset of its own, as it is at ten a second."""
DAY_S, WRITES_PER_S = 86_400, 10
LOOK_S = 0.02
THERE_WITHIN_S = 300.0

RATE, SECONDS, BYTES, P50, P99 = "commits_per_s", "seconds", "bucket_bytes", "p50_ms", "p99_ms"
WITHOUT = "one-row transactions without pause, mode convergent"
WITH = "the same with a backup"
PLAIN = "the same, plain SQLite"
BESIDE_LITESTREAM = "the same, plain SQLite beside Litestream"
ARRIVES = f"a commit until it is in the bucket, at {PACE_PER_S:,} a second"
RESTORED = "restoring the database from a fresh snapshot"
RESTORED_SINCE = "restoring it with an hour of ten writes a second after the snapshot"
BY_LITESTREAM = "Litestream restoring the same rows"
COPIED = "the backup API copying the file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where backups go. `folder`: where the objects are files."""

    url: str
    folder: Path
    environ: Mapping[str, str]


def backup(*, quick: bool) -> Benchmark:
    """Uploading, arriving and restoring."""
    rows = DAY_S * WRITES_PER_S // (20 if quick else 1)
    since = 3_600 * WRITES_PER_S // (20 if quick else 1)
    is_beside = installed("litestream") is not None
    where = "a folder" if installed("versitygw") is None else "an S3 server"
    beside = (
        Comparison(subject=BESIDE_LITESTREAM, baseline=PLAIN, figure=RATE),
        Comparison(subject=RESTORED, baseline=BY_LITESTREAM, figure=SECONDS, target=AtMost(1)),
        Comparison(subject=RESTORED, baseline=BY_LITESTREAM, figure=BYTES, target=AtMost(1.5)),
    )
    return Benchmark(
        name="backup",
        title=f"A node with a backup in {where} on this machine, interval {INTERVAL_S:g} s; {rows:,} rows of 5 "
        f"columns, {since:,} transactions after the snapshot",
        rounds=1 if quick else 3,
        open=partial(_open, rows, since, 1.5 if quick else 8.0),
        comparisons=(
            Comparison(subject=WITH, baseline=WITHOUT, figure=RATE, target=AtLeast(0.95)),
            Comparison(subject=ARRIVES, figure=P50),
            Comparison(subject=ARRIVES, figure=P99, target=AtMost(1000 * (INTERVAL_S + 1))),
            Comparison(subject=RESTORED, baseline=COPIED, figure=SECONDS),
            Comparison(subject=RESTORED_SINCE, baseline=RESTORED, figure=SECONDS, target=AtMost(1.5)),
            *(beside if is_beside else ()),
        ),
        warm_up=False,
    )


@contextmanager
def _open(rows: int, since: int, for_s: float) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        store = _store(folder, stack)
        contestants = _writing(folder, store, stack, for_s)
        fresh, later, plain = _made(folder, store, rows, since)
        out = folder / "out.db"
        contestants |= {
            COPIED: partial(_copied, plain, out),
            RESTORED: partial(_restored, store, fresh, out),
            RESTORED_SINCE: partial(_restored, store, later, out),
        }
        program = installed("litestream")
        if program is not None:
            beside = stack.enter_context(_litestream(program, store, folder / "beside.db"))
            contestants[BESIDE_LITESTREAM] = partial(_written, beside, for_s)
            config = _settings(store, plain)
            _run(store, program, "replicate", "-config", config, "-once", "-force-snapshot")
            restoring = (program, "restore", "-config", config, "-o", str(out), str(plain))
            contestants[BY_LITESTREAM] = partial(_timed, store, restoring, out, store.folder / plain.stem)
        yield contestants


def _store(folder: Path, stack: ExitStack) -> Store:
    program = installed("versitygw")
    if program is None:
        (folder / "objects").mkdir()
        return Store(url=(folder / "objects").as_uri(), folder=folder / "objects", environ={})
    server = stack.enter_context(versitygw(program, folder / "s3", free_ports(1)[0]))
    return Store(url=f"s3://{BUCKET}", folder=server.folder, environ=server.environ)


# --- writing ---


def _writing(folder: Path, store: Store, stack: ExitStack, for_s: float) -> dict[str, Callable[[], Figures]]:
    """The contestants that write. Those of a node are measured while no other one writes."""
    without = _cluster(folder / "without", None, {})
    with_backup = _cluster(folder / "with", f"{store.url}/writing", store.environ)
    plain = folder / "plain-writing.db"
    for path in (plain, folder / "beside.db", _database(without), _database(with_backup)):
        make(path, 1_000)  # without any there would be nothing to begin a backup with
    for cluster in (without, with_backup):
        stack.enter_context(cluster.all_running())
    _until_there(with_backup)
    return {
        PLAIN: partial(_written, plain, for_s),
        WITHOUT: partial(_written, _database(without), for_s),
        WITH: partial(_written, _database(with_backup), for_s),
        ARRIVES: partial(_arriving, with_backup, for_s),
    }


def _written(path: Path, for_s: float) -> Figures:
    """One row a transaction, as fast as they go."""
    count = 0
    with closing(_opened(path)) as connection:
        began_s = time.monotonic()
        while (now_s := time.monotonic()) - began_s < for_s:
            for row in made_up(50):
                connection.execute(INSERT, row)
            count += 50
    return {RATE: count / (now_s - began_s)}


def _arriving(cluster: Cluster, for_s: float) -> Figures:
    """At a pace. When each commit was made is noted; and, by looking again and again, up to when all are in the bucket,
    by the stamps that the node reports."""
    committed_s: list[float] = []
    looked: list[tuple[float, float]] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            found = _status(cluster)
            stamps = [one["restorable"] or 0 for one in found["sites"].values()]
            looked.append((time.time(), max(stamps, default=0) / 65_536 / 1000))
            over.wait(LOOK_S)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        with closing(_opened(_database(cluster))) as connection:
            began_s = time.time()
            for number, row in enumerate(made_up(int(PACE_PER_S * for_s))):
                time.sleep(max(0.0, began_s + number / PACE_PER_S - time.time()))
                connection.execute(INSERT, row)
                committed_s.append(time.time())
        _until_there(cluster)
        time.sleep(5 * LOOK_S)
    finally:
        over.set()
        watch.join()
    took_ms = sorted(1000 * (next(at for at, upto in looked if upto >= one - 0.001) - one) for one in committed_s[:-10])
    cut = quantiles(took_ms, n=100)
    return {P50: cut[49], P99: cut[98]}


# --- restoring ---


def _made(folder: Path, store: Store, rows: int, since: int) -> tuple[str, str, Path]:
    """Two backups, one of them with changes after the snapshot, and a file of plain SQLite with the same rows."""
    plain = folder / "plain.db"
    make(plain, rows)
    urls = [f"{store.url}/fresh", f"{store.url}/later"]
    for url, more in zip(urls, (0, since), strict=True):
        cluster = _cluster(folder / f"made-{more}", url, store.environ)
        with closing(sqlite3.connect(plain)) as source, closing(sqlite3.connect(_database(cluster))) as target:
            source.backup(target)
        with cluster.all_running():
            _until_there(cluster)
            with closing(_opened(_database(cluster))) as connection:
                for row in made_up(more):
                    connection.execute(INSERT, row)
                    time.sleep(1 / SINCE_PACE_PER_S)
            _until_there(cluster)
    return urls[0], urls[1], plain


def _restored(store: Store, url: str, out: Path) -> Figures:
    command = (sys.executable, "-m", "app", "restore", "--from", url, str(out))
    return _timed(store, command, out, store.folder / url.rpartition("/")[2])


def _timed(store: Store, command: tuple[str, ...], out: Path, objects: Path) -> Figures:
    """A process that makes a database of what is in a bucket."""
    for one in out.parent.glob(f"{out.name}*"):
        one.unlink()
    began_s = time.monotonic()
    _run(store, *command)
    took_s = time.monotonic() - began_s
    with closing(sqlite3.connect(out)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM big").fetchone()
    if not count:
        raise ChildFailed(f"{command[0]} restored no rows")
    return {SECONDS: took_s, BYTES: float(sum(one.stat().st_size for one in objects.rglob("*") if one.is_file()))}


def _copied(path: Path, out: Path) -> Figures:
    out.unlink(missing_ok=True)
    began_s = time.monotonic()
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(out)) as target:
        source.backup(target)
    return {SECONDS: time.monotonic() - began_s}


# --- nodes and programs ---


def _cluster(folder: Path, url: str | None, environ: Mapping[str, str]) -> Cluster:
    """One node."""
    backup = {} if url is None else {"LITECAST_BACKUP__URL": url, "LITECAST_BACKUP__INTERVAL_S": f"{INTERVAL_S:g}"}
    tables = {"LITECAST_REPLICATION__TABLES__BIG__COUNTERS": "n"}
    return Cluster(folder, [NODE], mode="convergent", **backup, **tables, **environ)


def _database(cluster: Cluster) -> Path:
    return cluster.places[NODE].database


def _status(cluster: Cluster) -> dict[str, Any]:
    url = f"http://127.0.0.1:{cluster.places[NODE].http_port}/api/cluster"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["replication"]["backup"]
        return found


def _until_there(cluster: Cluster) -> None:
    """Until the bucket has all that the node has."""
    deadline_s = time.monotonic() + THERE_WITHIN_S
    quiet = 0
    while quiet < 3:  # what was committed this moment may not be folded yet
        found = _status(cluster)
        quiet = quiet + 1 if found["snapshot"] and not found["lacking"] else 0
        if time.monotonic() > deadline_s:
            raise ChildFailed(f"not all was in the bucket within {THERE_WITHIN_S:g} s: {found['problem']}")
        time.sleep(0.1)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


@contextmanager
def _litestream(program: str, store: Store, path: Path) -> Iterator[Path]:
    """A file that it copies inside the block."""
    with subprocess.Popen(
        [program, "replicate", "-config", _settings(store, path)],
        env=_environment(store),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield path
        finally:
            process.terminate()


def _environment(store: Store) -> dict[str, str]:
    """Without what this machine says of other stores."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {**store.environ}


def _settings(store: Store, path: Path) -> str:
    """Litestream's, in a file: copy this database, as often as we upload."""
    replica = {
        "url": f"{store.url}/{path.stem}",
        "sync-interval": f"{INTERVAL_S:g}s",
        **({"endpoint": store.environ["AWS_ENDPOINT_URL_S3"]} if store.environ else {}),
        **({"region": store.environ["AWS_REGION"]} if store.environ else {}),
    }
    file = path.with_suffix(".yml")
    file.write_text(json.dumps({"dbs": [{"path": str(path), "replica": replica}]}))  # JSON is YAML
    return str(file)


def _run(store: Store, *command: str) -> None:
    done = subprocess.run(command, env=_environment(store), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ChildFailed(f"{' '.join(command[:4])}: {done.stderr[-800:]}")
