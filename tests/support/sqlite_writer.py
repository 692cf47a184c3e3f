"""A program that knows nothing of Litecast: it counts in an SQLite file, and notes what was acknowledged.

    python sqlite_writer.py DATABASE NOTES NAME [--pace SECONDS] [--stop-inside NUMBER]

Each transaction adds one to a row of `visits` and inserts one row into `clicks`, so that the two always agree: all or
nothing. Before it begins the program notes `? ID`, and after its COMMIT has returned `+ ID`, or `- ID` if it was rolled
back. What it noted as begun and neither way was under way when it was killed.

Run as a file, with the standard library alone: it starts fast, and with any Python."""

import argparse
import os
import signal
import sqlite3
import time

SCHEMA = """
CREATE TABLE visits (page TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL DEFAULT 0, title TEXT);
CREATE TABLE clicks (id TEXT PRIMARY KEY NOT NULL, page TEXT NOT NULL);
"""
PAGES = ("home", "about", "news")
BUSY_TIMEOUT_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("notes")
    parser.add_argument("name")
    parser.add_argument("--pace", type=float, default=0.0)
    parser.add_argument("--stop-inside", type=int, default=-1, help="this transaction stops the process before COMMIT")
    arguments = parser.parse_args()
    notes = os.open(arguments.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    connection = sqlite3.connect(arguments.database, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    number = 0
    while True:
        click = f"{arguments.name}-{number}"
        os.write(notes, f"? {click}\n".encode())
        try:
            count(connection, click, PAGES[number % len(PAGES)], stops=number == arguments.stop_inside)
            os.write(notes, f"+ {click}\n".encode())
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            os.write(notes, f"- {click}\n".encode())
            print(f"{click}: {error}", flush=True)
            time.sleep(0.05)
        number += 1
        if arguments.pace:
            time.sleep(arguments.pace)


def count(connection: sqlite3.Connection, click: str, page: str, *, stops: bool) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "INSERT INTO visits (page, count) VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET count = count + 1", (page,)
    )
    connection.execute("INSERT INTO clicks VALUES (?, ?)", (click, page))
    if stops:
        os.kill(os.getpid(), signal.SIGSTOP)
    connection.execute("COMMIT")


if __name__ == "__main__":
    main()
