import asyncio
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replication.repo import Repo

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
TEXT = st.text(st.characters(codec="utf-8"))  # NUL included; lone surrogates are not text
VALUES = st.one_of(
    st.none(),
    st.integers(INT_MIN, INT_MAX),
    st.sampled_from(
        [INT_MIN, INT_MAX, 2**53, 2**53 + 1, -0.0, math.inf, -math.inf, "\x00", "a\x00b", b"\x00", b"", ""]
    ),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(),
)
KEYS = VALUES.filter(lambda value: value is not None)


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and left == right


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=20, unique_by=lambda row: (row[0], str(type(row[0]))))
)
def test_any_value_comes_back_as_it_was_by_every_verb(rows: list[tuple[Any, Any]]) -> None:
    async def check() -> None:
        with TemporaryDirectory() as folder:
            async with Repo(Path(folder) / "litecast.db") as repo:
                # No type: no affinity, nothing is converted. WITHOUT ROWID: the key is the table itself.
                await repo.migrate(["CREATE TABLE t (k PRIMARY KEY NOT NULL, v) WITHOUT ROWID"])
                kept: dict[Any, tuple[Any, Any]] = {}
                for key, value in rows:
                    if key in kept:  # 1 and 1.0 are one key to SQLite, as they are to Python
                        continue
                    kept[key] = (key, value)
                    inserted = await repo.insert("t", {"k": key, "v": None})
                    assert same(inserted["k"], key)
                    updated = await repo.update("t", key, {"v": value})
                    assert same(updated["v"], value)
                for key, value in kept.values():
                    found = await repo.get("t", key)
                    assert found is not None
                    assert same(found["k"], key)
                    assert same(found["v"], value)
                listed = await repo.all("SELECT k, v FROM t")
                assert len(listed) == len(kept)
                for row in listed:
                    assert same(row["v"], kept[row["k"]][1])
                for key, value in kept.values():
                    assert same((await repo.delete("t", key))["v"], value)

    asyncio.run(check())


@settings(deadline=None, max_examples=20)
@given(number=st.floats(allow_nan=True))
def test_nan_is_stored_as_null_and_told_so(number: float) -> None:
    async def check() -> None:
        with TemporaryDirectory() as folder:
            async with Repo(Path(folder) / "litecast.db") as repo:
                await repo.migrate(["CREATE TABLE t (k INTEGER PRIMARY KEY, v)"])
                row = await repo.insert("t", {"k": 1, "v": number})
                assert row["v"] == (None if math.isnan(number) else number)
                assert await repo.get("t", 1) == row

    asyncio.run(check())
