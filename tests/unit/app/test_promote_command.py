"""`litecast promote NODE`."""

import json

import pytest

from app import cli
from app.admin_client import AdminClient
from app.errors import NodeRefused

URL = "http://127.0.0.1:1"


def ask(_client: AdminClient, method: str, path: str, body: dict[str, str]) -> None:
    assert (method, path) == ("POST", "/api/promote")
    if body["node"] == "z":
        raise NodeRefused("there is no live node 'z'")


def test_a_node_is_promoted_or_it_is_said_why_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(AdminClient, "_ask", ask)
    assert cli.main(["promote", "b", "--url", URL]) == 0
    assert capsys.readouterr().out == "b is the primary.\n"
    assert cli.main(["promote", "b", "--url", URL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"primary": "b"}
    assert cli.main(["promote", "z", "--url", URL]) == 1
    assert capsys.readouterr().err == "litecast: there is no live node 'z'\n"
