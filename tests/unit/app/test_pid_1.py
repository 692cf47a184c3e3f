"""The command as a container's only process."""

import os
import signal
from collections.abc import Iterator

import pytest

from app import cli


@pytest.fixture(autouse=True)
def handler_of_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_stop_during_the_start_ends_the_only_process_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.getpid()

    def stop_meanwhile(name: str) -> bool:
        os.kill(really, signal.SIGTERM)
        return True

    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(cli, "_exists", stop_meanwhile)
    with pytest.raises(SystemExit) as caught:
        cli.main(["keygen"])
    assert caught.value.code == 128 + signal.SIGTERM


def test_any_other_process_leaves_the_signal_to_the_system() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cli.main(["keygen"])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
