"""Mode primary with real processes, when the primary is not dead: it stands still, or nobody reaches it.

Wall clocks that jump are in `tests/integration/primary/test_roles.py`, with all nodes in one process: nothing of the
lease asks one. The simulator sets them as well ("clock skew"), and lets each lease's own clock drift."""

import contextlib
import itertools
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from replication.acknowledging.levels import Ack
from tests.support.convergent_nodes import create, introduce, opened
from tests.support.node_process import NodeProcess, node_processes
from tests.support.primary_processes import INSERT, NOTES, WITHIN_S, Writer, primary_of, three_with_notes
from tests.support.s3_server import BUCKET, s3_server
from tests.support.tcp_proxy import ProxyThread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TTL_S = 2.0
PACE_S = 0.1
UNFENCED = -1


def test_a_primary_that_is_stopped_and_resumed_and_one_that_is_cut_off_are_followed_and_no_quorum_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path / "s3") as server, ProxyThread() as proxies, node_processes(tmp_path) as make:
        s3_port = int(server.environ["AWS_ENDPOINT_URL_S3"].rpartition(":")[2])
        nodes = three_with_notes(
            make,
            lease_url=f"s3://{BUCKET}/lease",
            ttl_s=TTL_S,
            replication__ack_timeout_s=1.0,
            forwarding__hold_s=1.0,
        )
        to_bus = {node: proxies.proxy(node.bus_port) for node in nodes}
        to_store = {node: proxies.proxy(s3_port) for node in nodes}
        for node in nodes:
            node.settings["bus__advertise"] = f"tcp://127.0.0.1:{to_bus[node].port}"
        introduce(nodes)
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        for node in nodes:
            create(node.database, NOTES)
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{to_store[node].port}")
            node.start()

        stopped = primary_of(nodes)
        numbers = itertools.count()
        writers = {node: Writer(node, numbers, ack=Ack.QUORUM, pace_s=PACE_S) for node in nodes}
        for writer in writers.values():
            writer.start()

        def all_get_on(*some: NodeProcess) -> None:
            wanted = {node: len(writers[node].acknowledged) + 3 for node in some}
            some[0].until(lambda: all(len(writers[node].acknowledged) >= n for node, n in wanted.items()), WITHIN_S)

        all_get_on(*nodes)
        others = [node for node in nodes if node is not stopped]
        epoch = _standing(stopped)["epoch"]
        _stop_between_transactions(stopped)
        with contextlib.closing(sqlite3.connect(stopped.database, isolation_level=None)) as program:
            program.execute(INSERT, (str(UNFENCED),))  # nobody fences it: Litecast stands still
        late = Writer(stopped, numbers, ack=Ack.LOCAL)
        late.start()  # its first write waits there until the node goes on, and is as sure as that node alone says
        cut_off = primary_of(others)
        assert _standing(cut_off)["epoch"] > epoch
        all_get_on(*others)
        stopped.signal(signal.SIGCONT)
        stopped.until(lambda: _standing(stopped)["role"] == "replica" and _standing(stopped)["tails"] >= 1, WITHIN_S)
        stopped.until(lambda: len(late.acknowledged) > 0, WITHIN_S)
        late.stopping.set()
        all_get_on(*nodes)

        others = [node for node in nodes if node is not cut_off]
        for proxy in (to_bus[cut_off], to_store[cut_off]):
            proxies.do(proxy.cut)
        assert primary_of(others) is not cut_off
        all_get_on(*others)
        cut_off.until(lambda: _standing(cut_off)["role"] != "primary", WITHIN_S)
        alone = len(writers[cut_off].acknowledged)
        with (
            contextlib.closing(sqlite3.connect(cut_off.database, isolation_level=None)) as program,
            pytest.raises(sqlite3.IntegrityError, match="written on the primary"),
        ):
            program.execute(INSERT, (str(UNFENCED),))
        all_get_on(*others)
        assert len(writers[cut_off].acknowledged) == alone
        for proxy in (to_bus[cut_off], to_store[cut_off]):
            proxies.do(proxy.heal)
        all_get_on(*nodes)

        everybody = [late, *writers.values()]
        for writer in everybody:
            writer.stopping.set()
        for writer in everybody:
            writer.join(WITHIN_S)
        acknowledged = {number for writer in everybody for number, _ in writer.acknowledged}
        unknown = set[int]().union(*(writer.unknown for writer in everybody))
        first, *rest = nodes
        first.until(lambda: all(_noted(node) == _noted(first) for node in rest), WITHIN_S)
        noted = _noted(first)
        assert len(set(noted)) == len(noted)
        assert acknowledged <= set(noted) <= acknowledged | unknown


def _stop_between_transactions(node: NodeProcess) -> None:
    """SIGSTOP, at a moment at which the node does not hold the write lock: nobody else could write then."""
    with contextlib.closing(sqlite3.connect(node.database, isolation_level=None, timeout=0.0)) as program:
        while True:
            node.signal(signal.SIGSTOP)
            try:
                program.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                node.signal(signal.SIGCONT)
                time.sleep(0.01)
            else:
                program.execute("ROLLBACK")
                return


def _standing(node: NodeProcess) -> dict[str, Any]:
    found = node.cluster()
    return dict(found["replication"]) if found else {"role": "", "epoch": 0, "tails": 0}


def _noted(node: NodeProcess) -> list[int]:
    with contextlib.closing(opened(node)) as file:
        return [int(text) for (text,) in file.execute("SELECT text FROM notes ORDER BY id")]
