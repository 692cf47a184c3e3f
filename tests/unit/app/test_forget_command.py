"""`litecast peers --forget NODE`."""

import json
from collections.abc import Sequence

import pytest

from app import cli
from app.admin_client import AdminClient
from app.errors import NodeRefused

URL = "http://127.0.0.1:1"


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def ask(_client: AdminClient, method: str, path: str, body: dict[str, Sequence[str]]) -> None:
        assert (method, path) == ("POST", "/api/peers/forget")
        if "up" in body["nodes"]:
            raise NodeRefused("up is up: stop it first, for good")
        asked.extend(body["nodes"])

    monkeypatch.setattr(AdminClient, "_ask", ask)
    return asked


def test_nodes_are_forgotten_by_name(forgotten: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["peers", "--url", URL, "--forget", "b", "--forget", "c"]) == 0
    assert forgotten == ["b", "c"]
    assert "discovery.peers" in capsys.readouterr().out
    assert cli.main(["peers", "--url", URL, "--forget", "d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"forgotten": ["d"]}


def test_why_not_is_said_in_one_line(forgotten: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["peers", "--url", URL, "--forget", "up"]) == 1
    assert capsys.readouterr().err == "litecast: up is up: stop it first, for good\n"
    assert forgotten == []
