"""Messages between workers: what is sent is what arrives, and nothing else gets in."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.convergent.messages import Heads, NotAMessage, parse_heads, parse_stamps
from replication.convergent.parcels import PIECE_BYTES, Incoming, ParcelError, Parcels
from replication.engine.changesets import DIGEST_BYTES
from replication.engine.sites import Head
from replication.engine.stamps import STAMP_MAX, Site, Stamp
from replication.positions import Position, PositionError

sites = st.integers(0, 2**128 - 1).map(lambda number: Site(f"{number:032x}"))
stamps = st.integers(0, STAMP_MAX).map(Stamp)
some_heads = st.builds(
    lambda stamp, digest: Head(stamp=stamp, digest=digest),
    stamps,
    st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES),
)
messages = st.builds(
    lambda site, vector, closed, held, clock, ready: Heads(
        site=site, vector=vector, closed=closed, held=tuple(held), clock_ms=clock, ready=ready
    ),
    sites,
    st.dictionaries(sites, some_heads, max_size=4),
    st.dictionaries(sites, st.frozensets(some_heads, max_size=3), max_size=2),
    st.lists(st.tuples(sites, stamps), max_size=3),
    st.integers(0, 2**48 - 1),
    st.booleans(),
)
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=10,
)


@given(messages)
def test_heads_arrive_as_they_were_sent(heads: Heads) -> None:
    assert parse_heads(heads.plain()) == heads


@given(st.lists(plain, max_size=8))
def test_whatever_is_no_heads_is_refused_and_nothing_else_is_raised(parts: list[Any]) -> None:
    with contextlib.suppress(NotAMessage):
        parse_heads(["heads", *parts])


@given(messages, st.data())
def test_heads_with_any_part_replaced_are_refused_or_heads(heads: Heads, data: st.DataObject) -> None:
    message = heads.plain()
    message[data.draw(st.integers(1, len(message) - 1))] = data.draw(plain)
    with contextlib.suppress(NotAMessage):
        parse_heads(message)


@given(plain)
def test_whatever_is_no_vector_is_refused(value: Any) -> None:
    with contextlib.suppress(NotAMessage):
        parse_stamps(value)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
async def test_a_parcel_of_any_size_arrives_whole(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    shelf, incoming = Parcels(lambda: 0.0), Incoming()
    found = incoming.take(await shelf.first(content))
    while found is None:
        found = incoming.take(await shelf.more(incoming.ref, incoming.have))
    assert found == content


@given(plain)
def test_what_is_no_piece_of_a_parcel_is_refused(answer: Any) -> None:
    with contextlib.suppress(ParcelError):
        Incoming().take(answer)


async def test_pieces_of_two_parcels_are_not_put_together() -> None:
    shelf, incoming = Parcels(lambda: 0.0), Incoming()
    incoming.take(await shelf.first(bytes(2 * PIECE_BYTES + 1)))
    with pytest.raises(ParcelError):
        incoming.take(await shelf.first(bytes(2 * PIECE_BYTES + 1)))


async def test_a_parcel_that_nobody_fetches_is_forgotten() -> None:
    now = [0.0]
    shelf = Parcels(lambda: now[0])
    _, ref, _ = await shelf.first(bytes(PIECE_BYTES + 1))
    now[0] = 100.0
    await shelf.first(b"another")
    with pytest.raises(ParcelError):
        await shelf.more(ref, PIECE_BYTES)


@given(st.dictionaries(sites, stamps, max_size=5))
def test_a_position_is_what_its_text_says(found: dict[Site, Stamp]) -> None:
    assert Position.parse(str(Position(found))) == Position(found)


@given(st.text(max_size=60))
def test_a_text_is_a_position_or_refused(text: str) -> None:
    with contextlib.suppress(PositionError):
        Position.parse(text)


@given(st.dictionaries(sites, stamps, max_size=4), st.dictionaries(sites, stamps, max_size=4))
def test_positions_add_up_to_the_larger_of_each(one: dict[Site, Stamp], other: dict[Site, Stamp]) -> None:
    both = Position(one) | Position(other)
    assert both == Position(other) | Position(one)
    assert all(both.stamps[site] >= stamp for known in (one, other) for site, stamp in known.items())
