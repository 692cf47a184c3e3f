"""Pages that count their views, and notes on them: Flask and the standard library's sqlite3."""

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

from flask import Flask, Response, abort, jsonify, request
from markupsafe import escape

DATABASE = os.environ.get("DATABASE_PATH", "notes.db")
SCHEMA = """
CREATE TABLE IF NOT EXISTS pages (page TEXT PRIMARY KEY NOT NULL, views INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS notes (
    id TEXT PRIMARY KEY NOT NULL, page TEXT NOT NULL REFERENCES pages, text TEXT NOT NULL
);
"""

app = Flask(__name__)


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A transaction that begins as a writer: it waits for others, which one that begins as a reader cannot."""
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


@app.get("/")
def index() -> str:
    """All pages."""
    with database() as db:
        rows = db.execute("SELECT page, views FROM pages ORDER BY page").fetchall()
    return "<h1>Pages</h1><ul>" + "".join(f"<li>{escape(page)}: {views} views</li>" for page, views in rows) + "</ul>"


@app.get("/pages/<page>")
def show(page: str) -> Response:
    """A page's views and notes."""
    with database() as db:
        row = db.execute("SELECT views FROM pages WHERE page = ?", [page]).fetchone()
        notes = db.execute("SELECT id, text FROM notes WHERE page = ? ORDER BY id", [page]).fetchall()
    if row is None:
        abort(404)
    return jsonify(page=page, views=row[0], notes=[{"id": id, "text": text} for id, text in notes])


@app.post("/pages/<page>/views")
def count(page: str) -> Response:
    """One more view."""
    with database() as db:
        (views,) = db.execute(
            "INSERT INTO pages VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET views = views + 1 RETURNING views", [page]
        ).fetchone()
    return jsonify(page=page, views=views)


@app.post("/pages/<page>/notes")
def write(page: str) -> tuple[Response, int]:
    """A new note, whose text is the request's body."""
    note = str(uuid.uuid4())
    with database() as db:
        db.execute("INSERT OR IGNORE INTO pages (page) VALUES (?)", [page])
        db.execute("INSERT INTO notes VALUES (?, ?, ?)", [note, page, request.get_data(as_text=True)])
    return jsonify(id=note), 201
