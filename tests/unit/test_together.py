"""How the tests are spread over processes."""

import os

import pytest


def test_tests_that_belong_together_run_in_one_process(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("all tests run in one process")
    # So pytest-xdist tells the group of a test to its scheduler. Where it does not, each process builds the image anew.
    assert request.node.nodeid.endswith(f"@{request.path}")
