"""Accounts with a name that nobody else has, and a balance that is never below zero: Flask, SQLite, one writer.

Nothing here is made for several nodes but the middleware: keys are SQLite's own, names are UNIQUE, and a transfer
relies on CHECK. `litecast run` with mode = "primary" makes three nodes of it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from flask import Flask, Response, abort, jsonify, request

from litecast import PrimaryWsgi

DATABASE = os.environ.get("DATABASE_PATH", "accounts.db")
SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    balance INTEGER NOT NULL DEFAULT 0 CHECK (balance >= 0)
);
CREATE TABLE IF NOT EXISTS transfers (
    id INTEGER PRIMARY KEY,
    source INTEGER NOT NULL REFERENCES accounts,
    target INTEGER NOT NULL REFERENCES accounts,
    amount INTEGER NOT NULL CHECK (amount > 0)
);
"""

app = Flask(__name__)
app.wsgi_app = PrimaryWsgi(app.wsgi_app, database=DATABASE)


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A transaction that begins as a writer, so that what it reads is true until it commits."""
    with closing(sqlite3.connect(DATABASE, timeout=20, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


with closing(sqlite3.connect(DATABASE, timeout=20)) as first:
    first.executescript(SCHEMA)


@app.errorhandler(sqlite3.IntegrityError)
def broken(error: sqlite3.IntegrityError) -> tuple[Response, int]:
    """A name that is taken, a balance that would fall below zero."""
    return jsonify(error=str(error)), 409


@app.get("/")
def index() -> Response:
    """All accounts, by name."""
    with closing(sqlite3.connect(DATABASE, timeout=20)) as connection:
        return jsonify(dict(connection.execute("SELECT name, balance FROM accounts ORDER BY name").fetchall()))


@app.get("/accounts/<name>")
def show(name: str) -> Response:
    """One account."""
    with closing(sqlite3.connect(DATABASE, timeout=20)) as connection:
        row = connection.execute("SELECT id, balance FROM accounts WHERE name = ?", [name]).fetchone()
    if row is None:
        abort(404)
    return jsonify(id=row[0], name=name, balance=row[1])


@app.post("/accounts/<name>")
def create(name: str) -> tuple[Response, int]:
    """A new account, with so much in it."""
    with database() as db:
        cursor = db.execute("INSERT INTO accounts (name, balance) VALUES (?, ?)", [name, int(request.form["balance"])])
    return jsonify(id=cursor.lastrowid, name=name), 201


@app.post("/accounts/<name>/transfers")
def transfer(name: str) -> tuple[Response, int]:
    """So much goes from this account to another, or nothing at all."""
    amount, other = int(request.form["amount"]), request.form["to"]
    with database() as db:
        ids = dict(db.execute("SELECT name, id FROM accounts WHERE name IN (?, ?)", [name, other]).fetchall())
        if ids.keys() != {name, other}:
            abort(404)
        db.execute("UPDATE accounts SET balance = balance - ? WHERE id = ?", [amount, ids[name]])
        db.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", [amount, ids[other]])
        cursor = db.execute(
            "INSERT INTO transfers (source, target, amount) VALUES (?, ?, ?)", [ids[name], ids[other], amount]
        )
    return jsonify(id=cursor.lastrowid), 201
