"""A program that knows nothing of Litecast and writes until it is told to stop (SIGTERM), always in the same room.

    python writer.py DATABASE NAME PACE_S

Each transaction adds one to the total under its own name and to that of all, and writes or deletes one of `ITEMS`
items; now and then it writes all of them. At its end it prints how many transactions were acknowledged. With the
standard library alone, so that it is somebody else's program."""

import random
import signal
import sqlite3
import sys
import time
from types import FrameType

SCHEMA = """
CREATE TABLE totals (name TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0);
CREATE TABLE items (id TEXT PRIMARY KEY NOT NULL, owner TEXT, weight REAL, body TEXT);
"""
ITEMS = 3_000
ALL_AT_ONCE = 0.0005
BUSY_TIMEOUT_S = 60.0


def main() -> None:
    database, name, pace_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
    is_over = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, stop)
    chance = random.Random(name)
    connection = sqlite3.connect(database, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    acknowledged = 0
    while not is_over:
        write(connection, name, chance)
        acknowledged += 1
        time.sleep(pace_s)
    connection.close()
    print(acknowledged, flush=True)


def write(connection: sqlite3.Connection, name: str, chance: random.Random) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for total in (name, "all"):
        connection.execute(
            "INSERT INTO totals VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET n = n + 1",
            (total,),
        )
    what, item = chance.random(), f"item-{chance.randrange(ITEMS)}"
    if what < ALL_AT_ONCE:
        connection.execute("UPDATE items SET owner = ?, weight = weight + 1", (name,))
    elif what < 0.3:
        connection.execute("DELETE FROM items WHERE id = ?", (item,))
    else:
        body = chance.choice("abcdefgh") * chance.randrange(20, 200)
        connection.execute(
            "INSERT INTO items VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET owner = ?2, body = ?4",
            (item, name, chance.random(), body),
        )
    connection.execute("COMMIT")


if __name__ == "__main__":
    main()
