"""The soak in short: it can run, tells its figures, and everything is equal and exact at its end."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_short_soak_ends_equal_and_exact_and_tells_its_figures() -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.12", "--every", "1.5", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert found.returncode == 0, found.stdout + found.stderr
    figures = json.loads(found.stdout)
    assert figures["wrong"] == []
    assert figures["commits"] > 50
    assert sum(figures["faults"].values()) > 0
