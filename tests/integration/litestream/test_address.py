"""An address in real stores, a folder and an S3 server: one node has it, and every other is told so."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import AddressTaken, AddressUnusable
from app.litestream.address import TOKENS_FILE, Address
from tests.support.s3_server import BUCKET, s3_server

type Make = Callable[..., Address]

CLI = [sys.executable, "-m", "app", "litestream"]


@pytest.fixture(params=["folder", "bucket"])
def base(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a place."""
    if request.param == "folder":
        yield f"file://{tmp_path}/replicas"
        return
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield f"s3://{BUCKET}/replicas"


@pytest.fixture
def make(base: str, tmp_path: Path) -> Make:
    def made(disk: str, *, node: str = "a", cluster: str = "c") -> Address:
        return Address(base, cluster=cluster, node=node, data_dir=tmp_path / disk, environ=os.environ)

    return made


def test_a_node_claims_its_address_at_each_start_and_with_an_empty_disk(make: Make, tmp_path: Path) -> None:
    assert [make("disk").claim() for _ in range(3)] == [1, 2, 3]
    shutil.rmtree(tmp_path / "disk")
    assert make("disk").claim() == 4
    assert make("disk of b", node="b").claim() == 1


def test_another_clusters_node_of_the_same_name_is_refused(make: Make) -> None:
    make("disk").claim()
    with pytest.raises(AddressTaken, match=r"is that of node 'a' of cluster 'c'.*another \[node\] name"):
        make("another disk", cluster="other").claim()
    assert make("disk").claim() == 2


def test_a_copy_of_a_disk_is_refused_once_both_have_started(make: Make, tmp_path: Path) -> None:
    make("disk").claim()
    shutil.copytree(tmp_path / "disk", tmp_path / "copy")
    make("copy").claim()
    with pytest.raises(AddressTaken, match=TOKENS_FILE):
        make("disk").claim()
    (tmp_path / "disk" / TOKENS_FILE).unlink()  # what the error says
    assert make("disk").claim() == 3
    with pytest.raises(AddressTaken):
        make("copy").claim()


def test_of_many_that_start_at_once_no_two_have_it(make: Make) -> None:
    addresses = [make(f"disk {number}") for number in range(8)]
    taken: list[int] = []
    refused: list[AddressTaken] = []
    all_there = threading.Barrier(len(addresses))

    def start(address: Address) -> None:
        all_there.wait(10)
        try:
            taken.append(address.claim())
        except AddressTaken as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(address,)) for address in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) + len(refused) == len(addresses)
    assert len(set(taken)) == len(taken) > 0, "empty disks may follow each other, one at a time"


def test_stopped_anywhere_in_a_claim_a_node_can_claim_again(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("disk").claim()
    shutil.rmtree(tmp_path / "disk")  # from here on only what the stopped claim wrote is remembered
    import obstore

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            make("disk").claim()
    with monkeypatch.context() as patched:
        patched.setattr(obstore, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            make("disk").claim()
    assert make("disk").claim() == 3


def test_a_claim_whose_answer_was_lost_is_known_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    put = obstore.put

    def twice(*args: Any, **options: Any) -> object:
        put(*args, **options)  # as a client does that sends a request again
        return put(*args, **options)

    monkeypatch.setattr(obstore, "put", twice)
    assert make("disk").claim() == 1
    assert make("disk").claim() == 2


def test_what_is_no_claim_and_a_place_that_cannot_be_reached_are_said_in_a_line(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AddressUnusable, match="LITESTREAM_URL"):
        Address("ftp://somewhere", cluster="c", node="a", data_dir=tmp_path, environ={})
    (tmp_path / "files" / "a").mkdir(parents=True)
    (tmp_path / "files" / "a" / "claim-000000000001.json").write_bytes(b"something else")
    with pytest.raises(AddressUnusable, match=r"claim-000000000001\.json is not what"):
        Address(f"file://{tmp_path}/files", cluster="c", node="a", data_dir=tmp_path / "d", environ={}).claim()
    (tmp_path / "file").touch()
    with pytest.raises(AddressUnusable, match="see that it is this user's"):
        make("file").claim()


def test_the_process_around_a_node_is_ended_when_another_node_claims_its_address(base: str, tmp_path: Path) -> None:
    environ = {**os.environ, "LITESTREAM_URL": base, "LITECAST_NODE__NAME": "a"}
    first = {**environ, "LITECAST_NODE__DATA_DIR": str(tmp_path / "first")}
    second = {**environ, "LITECAST_NODE__DATA_DIR": str(tmp_path / "second")}
    script = 'eval "$("$@")"; "$@" --watch $$ --every 0.2 & exec sleep 60'
    with subprocess.Popen(["sh", "-c", script, "sh", *CLI], env=first, stderr=subprocess.PIPE, text=True) as around:
        tokens = tmp_path / "first" / TOKENS_FILE
        until(lambda: around.poll() is None and tokens.exists() and len(tokens.read_text().splitlines()) == 1)
        time.sleep(1)  # it looks some times, and finds nobody
        assert around.poll() is None
        assert subprocess.run([*CLI], env=second, stdout=subprocess.PIPE, check=True).stdout
        assert around.wait(20) == -15
        assert around.stderr is not None
        assert "was claimed by another node of this name" in around.stderr.read()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
