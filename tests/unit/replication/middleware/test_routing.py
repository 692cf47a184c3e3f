"""Where a request is answered."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from replication.engine.epochs import epoch_site
from replication.engine.stamps import Stamp
from replication.epoch_position import EpochPosition
from replication.middleware.node_file import NodeSays, OtherNode, Standing
from replication.middleware.routing import (
    COME_BACK,
    READ_WAIT_S,
    REPLAY_MAX_BYTES,
    AnswerHere,
    Asked,
    Forward,
    Refuse,
    Replay,
    Step,
    Wait,
    next_step,
)

SAYS = NodeSays(
    node="beta",
    region="syd",
    url="http://127.0.0.1:1",
    primary="alpha",
    good_until_s=0.0,
    key=b"k",
    is_secret=True,
    hold_s=5.0,
    visible_s=5.0,
    others={"alpha": OtherNode(region="ams", url="http://a:1"), "gamma": OtherNode(region="iad", url="http://g:1")},
)
REPLICA = Standing(says=SAYS, may_write=False, is_awake=True)
PRIMARY = Standing(says=replace(SAYS, primary="beta", good_until_s=9.0), may_write=True, is_awake=True)
NOBODY = replace(REPLICA, says=replace(SAYS, primary=None))
WRITE, READ = Asked(writes=True), Asked(writes=False)
POSITION = EpochPosition.of(epoch_site(1, "0" * 19), Stamp(5))
AT_ALPHA, AT_GAMMA = Forward("alpha", "http://a:1"), Forward("gamma", "http://g:1")
HERE = AnswerHere(is_write=False, with_position=False)


def first(names: Sequence[str]) -> str:
    return names[0]


def step(
    asked: Asked, standing: Standing | None, *, on_fly: bool = False, waited_s: float = 0.0, has: bool = False
) -> Step:
    return next_step(asked, standing, on_fly=on_fly, waited_s=waited_s, has_reached=lambda _: has, choose=first)


def test_a_write_is_answered_where_it_may_be_written() -> None:
    assert step(WRITE, PRIMARY) == AnswerHere(is_write=True, with_position=True)
    assert step(WRITE, REPLICA) == AT_ALPHA


def test_a_read_is_answered_here() -> None:
    for standing in (REPLICA, PRIMARY, NOBODY, None):
        assert step(READ, standing) == HERE


def test_where_no_node_ever_ran_the_program_answers_everything() -> None:
    assert step(WRITE, None) == HERE


def test_on_fly_the_proxy_brings_a_write_to_the_primary_and_only_once() -> None:
    assert step(WRITE, REPLICA, on_fly=True) == Replay(f"instance=alpha;{COME_BACK}")
    assert step(replace(WRITE, was_replayed=True), REPLICA, on_fly=True) == AT_ALPHA


@pytest.mark.parametrize("size", [None, REPLAY_MAX_BYTES + 1])
def test_what_fly_could_not_send_again_is_forwarded_by_the_node(size: int | None) -> None:
    assert step(replace(WRITE, body_bytes=size), REPLICA, on_fly=True) == AT_ALPHA
    assert step(replace(WRITE, body_bytes=REPLAY_MAX_BYTES), REPLICA, on_fly=True) == Replay(
        f"instance=alpha;{COME_BACK}"
    )


def test_what_a_node_forwarded_goes_no_further() -> None:
    for on_fly in (False, True):
        refused = step(replace(WRITE, was_forwarded=True), REPLICA, on_fly=on_fly)
        assert refused == Refuse("this node is not the primary", to_forwarder=True)
    asked = replace(READ, was_forwarded=True, position=POSITION, region="iad")
    assert isinstance(step(asked, REPLICA, waited_s=READ_WAIT_S), AnswerHere)


def test_a_write_is_held_while_there_is_no_primary_and_then_refused() -> None:
    assert isinstance(step(WRITE, NOBODY), Wait)
    assert isinstance(step(WRITE, NOBODY, waited_s=4.9), Wait)
    refused = step(WRITE, NOBODY, waited_s=5.0)
    assert refused == Refuse("there is no primary just now")


def test_a_primary_that_cannot_be_reached_is_not_tried_for_ever() -> None:
    assert step(WRITE, REPLICA, waited_s=4.9) == AT_ALPHA
    assert isinstance(step(WRITE, REPLICA, waited_s=5.0), Refuse)


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        (replace(REPLICA, says=replace(SAYS, others={})), r"\[http\] program"),
        (replace(PRIMARY, may_write=False, is_awake=False), "does not run or hangs"),
        (replace(PRIMARY, may_write=False), "lease is being renewed"),
    ],
)
def test_a_refusal_says_what_is_missing(standing: Standing, why: str) -> None:
    assert isinstance(step(WRITE, standing), Wait)
    refused = step(WRITE, standing, waited_s=5.0)
    assert isinstance(refused, Refuse)
    import re

    assert re.search(why, refused.why)


def test_a_read_with_a_position_waits_for_the_file_and_then_goes_to_the_primary() -> None:
    asked = replace(READ, position=POSITION)
    here = AnswerHere(is_write=False, with_position=True)
    assert step(asked, REPLICA, has=True) == here
    assert isinstance(step(asked, REPLICA), Wait)
    assert step(asked, REPLICA, waited_s=READ_WAIT_S) == AT_ALPHA
    assert step(asked, REPLICA, waited_s=READ_WAIT_S, on_fly=True) == Replay(f"instance=alpha;{COME_BACK}")
    assert step(replace(asked, stays=True), REPLICA, waited_s=READ_WAIT_S) == here
    assert step(asked, NOBODY, waited_s=READ_WAIT_S) == here


def test_the_primary_never_waits() -> None:
    asked = replace(READ, position=POSITION)
    assert step(asked, PRIMARY) == AnswerHere(is_write=False, with_position=True)
    assert step(replace(WRITE, position=POSITION), PRIMARY) == AnswerHere(is_write=True, with_position=True)


def test_a_read_goes_to_the_region_that_it_prefers_if_a_node_is_there() -> None:
    assert step(replace(READ, region="iad"), REPLICA) == AT_GAMMA
    assert step(replace(READ, region="iad"), REPLICA, on_fly=True) == Replay(f"region=iad;{COME_BACK}")
    assert step(replace(READ, region="syd"), REPLICA) == HERE
    assert step(replace(READ, region="iad", stays=True), REPLICA) == HERE
    assert step(replace(READ, region="iad", was_replayed=True), REPLICA, on_fly=True) == HERE
    assert step(replace(WRITE, region="iad"), REPLICA) == AT_ALPHA


def test_who_writes_by_statement_answers_itself_gives_a_position_and_waits_for_one() -> None:
    write, read = replace(WRITE, at_home=True), replace(READ, at_home=True, position=POSITION)
    here = AnswerHere(is_write=False, with_position=True)
    for standing in (REPLICA, PRIMARY, NOBODY):
        assert step(write, standing) == here
    assert isinstance(step(read, REPLICA), Wait)
    assert step(read, REPLICA, has=True) == step(read, REPLICA, waited_s=READ_WAIT_S) == here
    assert step(replace(READ, at_home=True, region="iad"), REPLICA, on_fly=True) == HERE


@pytest.mark.parametrize("region", ["", "nowhere", "iad;app=other", "http://evil", "169.254.169.254"])
def test_a_client_leads_a_node_nowhere_but_to_nodes_that_it_knows(region: str) -> None:
    for on_fly in (False, True):
        assert step(replace(READ, region=region), REPLICA, on_fly=on_fly) == HERE
