"""A position survives being written down; what is no position is refused, and nothing else happens."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from replication.engine.stamps import STAMP_MAX, Site, Stamp
from replication.feed.position import FeedPosition, Partway
from replication.positions import PositionError

sites = st.builds(Site, st.one_of(st.from_regex(r"[0-9a-f]{32}", fullmatch=True), st.just("g" + "1" * 31)))
stamps = st.builds(Stamp, st.integers(0, STAMP_MAX))
texts = st.text().filter(lambda text: text.encode("utf-8", "replace") is not None)
values = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.binary(), st.just("a\udcff")
)
positions = st.builds(
    FeedPosition,
    vector=st.dictionaries(sites, stamps, max_size=4),
    generation=st.one_of(st.just(""), st.from_regex(r"[0-9a-f]{16}", fullmatch=True)),
    partway=st.one_of(st.none(), st.builds(Partway, sites, stamps, st.integers(0, 2**40))),
)
keys = st.one_of(st.none(), st.lists(values, min_size=1, max_size=3).map(tuple))


@given(positions, st.one_of(st.none(), keys.map(lambda key: (key,))))
def test_a_position_is_what_its_text_says(position: FeedPosition, at_rows: tuple[object] | None) -> None:
    if at_rows is not None:
        (key,) = at_rows
        position = FeedPosition(
            vector=position.vector,
            generation=position.generation,
            partway=position.partway,
            is_at_rows=True,
            rows_after=key,  # type: ignore[arg-type]
        )
    text = str(position)
    assert text.isascii()
    assert text.isprintable()
    assert FeedPosition.parse(text) == position


@given(st.text())
def test_any_text_is_a_position_or_is_refused(text: str) -> None:
    with contextlib.suppress(PositionError):
        FeedPosition.parse(text)


@given(positions, st.integers(0, 200), st.text(min_size=1, max_size=3))
def test_a_damaged_position_is_another_one_or_is_refused(position: FeedPosition, at: int, damage: str) -> None:
    text = f"{position};rows=kwE="
    at %= len(text)
    with contextlib.suppress(PositionError):
        FeedPosition.parse(text[:at] + damage + text[at + 1 :])
