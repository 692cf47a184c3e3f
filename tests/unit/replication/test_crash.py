import sqlite3
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from replication.repo import Repo
from tests.unit.replication.conftest import PAGE_COUNTS

WRITE_FOR_EVER = """
import asyncio, sys
from replication.repo import Repo

def work(tx, n):
    tx.insert_many("page_counts", [{"page": f"{n}-{m}", "count": n} for m in range(10)])

async def main():
    async with Repo(sys.argv[1]) as repo:
        await repo.migrate([sys.argv[2]])
        last = await repo.all("SELECT coalesce(max(count), -1) AS n FROM page_counts")
        n = last[0]["n"]
        while True:
            n += 1
            await repo.transaction(lambda tx: work(tx, n))
            print(n, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("_round", range(3))
async def test_kill_9_amid_writes_loses_no_acknowledged_one_and_leaves_no_half(
    path: Path, python: Callable[..., Popen[str]], _round: int
) -> None:
    writer = python(WRITE_FOR_EVER, path, PAGE_COUNTS)
    assert writer.stdout is not None
    told = [writer.stdout.readline() for _ in range(20)]
    writer.kill()
    told += writer.communicate()[0].splitlines()
    acknowledged = int(told[-1])
    async with Repo(path) as repo:
        rows = await repo.all("SELECT count AS n, count(*) AS rows FROM page_counts GROUP BY count ORDER BY count")
        assert [row["n"] for row in rows][: acknowledged + 1] == list(range(acknowledged + 1))
        assert all(row["rows"] == 10 for row in rows)
        await repo.insert("page_counts", {"page": "after", "count": 0})
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
