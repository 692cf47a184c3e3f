"""Which node may write, by the settings of its lease."""

import pytest

from app.config import Config, load_config
from app.leasing import lease_for
from cluster.errors import LeaseHeld


def static(name: str, **lease: str) -> Config:
    """The settings of one node of several, called as its region is, whose lease is static."""
    return load_config(
        None,
        environ={
            "LITECAST_NODE__NAME": name,
            "LITECAST_NODE__REGION": name,
            "LITECAST_REPLICATION__MODE": "primary",
            "LITECAST_DISCOVERY__METHOD": "static",
            "LITECAST_DISCOVERY__PEERS": "10.0.0.7:7400",
            "LITECAST_BUS__SECRET": "s" * 32,
            **{f"LITECAST_LEASE__{key.upper()}": value for key, value in lease.items()},
        },
    )


async def test_with_a_region_the_node_that_is_there_holds_a_static_lease_and_no_other() -> None:
    there, elsewhere = (lease_for(static(name, region="ams")) for name in ("ams", "syd"))
    assert there.candidate
    assert (await there.lease.acquire(above=6)).epoch == 7
    assert not elsewhere.candidate
    with pytest.raises(LeaseHeld, match="a node in region ams"):
        await elsewhere.lease.acquire(above=6)


async def test_a_primary_that_is_named_is_the_one_wherever_it_is() -> None:
    named, there = (lease_for(static(name, region="ams", primary="syd")) for name in ("syd", "ams"))
    assert named.candidate
    assert not there.candidate
    with pytest.raises(LeaseHeld, match="syd"):
        await there.lease.acquire(above=0)
