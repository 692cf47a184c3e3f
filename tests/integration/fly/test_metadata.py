"""What a machine on Fly says of its node, against a stand-in for the API's socket."""

import logging
from pathlib import Path

import pytest

from app import fly_metadata as module
from app.fly_metadata import FlyMetadata, fly_metadata
from replication.primary.standing import Role, RoleStatus
from tests.support.eventually import eventually
from tests.support.fly_api import stand_in_for_fly_api


class Leader:
    """Who knows the role, as the test says it."""

    def __init__(self) -> None:
        self.role = Role.REPLICA
        self.epoch = 0

    def status(self) -> RoleStatus:
        return RoleStatus(role=self.role, epoch=self.epoch, primary=None, problem="")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "TRY_AGAIN_S", 0.02)


async def test_role_and_epoch_are_told_when_they_change_and_only_then(tmp_path: Path) -> None:
    leader = Leader()
    async with stand_in_for_fly_api(tmp_path / "api") as api:
        metadata = FlyMetadata(leader, app="shop", machine="683d", socket=tmp_path / "api")
        metadata.start()
        await eventually(lambda: api.metadata == {"shop/683d/role": "replica", "shop/683d/epoch": "0"})
        leader.role, leader.epoch = Role.PRIMARY, 7
        await eventually(lambda: api.metadata == {"shop/683d/role": "primary", "shop/683d/epoch": "7"})
        asked = len(api.asked)
        leader.role = Role.REPLICA
        await metadata.stop()
        assert api.metadata["shop/683d/role"] == "replica"
        # The answer to the epoch may not have come when the end came: then it is said once more.
        assert api.asked[asked:] in (["role=replica"], ["role=replica", "epoch=7"])


async def test_what_is_refused_or_not_there_is_tried_again_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = FlyMetadata(Leader(), app="shop", machine="683d", socket=tmp_path / "api")
    with caplog.at_level(logging.WARNING):
        metadata.start()
        await eventually(lambda: caplog.records)
        async with stand_in_for_fly_api(tmp_path / "api") as api:
            api.refuses = True
            await eventually(lambda: len(api.asked) > 2)
            api.refuses = False
            await eventually(lambda: len(api.metadata) == 2)
            await metadata.stop()
    assert len(caplog.records) == 1
    assert "metadata cannot be written" in caplog.text


def test_elsewhere_than_on_fly_nobody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_fly = {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": "683d"}
    (tmp_path / "api").touch()
    monkeypatch.setattr(module, "SOCKET", tmp_path / "api")
    assert fly_metadata(on_fly, Leader()) is not None
    assert fly_metadata({"FLY_MACHINE_ID": "alpha"}, Leader()) is None
    monkeypatch.setattr(module, "SOCKET", tmp_path / "none")
    assert fly_metadata(on_fly, Leader()) is None
