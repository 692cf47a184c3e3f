"""Django's and Alembic's migrations on three nodes that run, one after the other, while old and new versions write.

Each program writes all the while, knows only its own version of the schema, and counts what it did in two ways: in a
counter and as a row. In the end all files are equal, nothing acknowledged is lost, and counters are exact."""

import contextlib
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e import test_real_writers as real
from tests.support.convergent_nodes import Make, introduce, opened, settle, start
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROUNDS_AT_LEAST = 1


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def three(make: Make, **tables: object) -> list[NodeProcess]:
    """Three nodes whose settings declare these tables. None is started."""
    declared = {f"replication.tables.{key}": value for key, value in tables.items()}
    nodes = [make(name, replication__mode="convergent", **declared) for name in "abc"]
    introduce(nodes)
    for node in nodes:
        node.database.parent.mkdir(parents=True)
    return nodes


def release(nodes: Sequence[NodeProcess], **tables: object) -> None:
    """The settings of the next version, which speak of columns that are not there yet."""
    for node in nodes:
        node.stop()
        node.settings |= {f"replication.tables.{key}": value for key, value in tables.items()}
    start(*nodes)


class Traffic:
    """One program a node, run again and again, each time in the version that the node has then."""

    def __init__(self, nodes: Sequence[NodeProcess], run: Callable[[NodeProcess, str, int], None]) -> None:
        self.versions = {node.name: 1 for node in nodes}
        self.rounds = {node.name: 0 for node in nodes}
        self.failed: list[BaseException] = []
        self._nodes = nodes
        self._run = run
        self._over = threading.Event()
        self._between = {node.name: threading.Lock() for node in nodes}
        self._done = threading.Condition()
        self._threads = [threading.Thread(target=self._work, args=[node], daemon=True) for node in nodes]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120)
        assert self.failed == []

    def _work(self, node: NodeProcess) -> None:
        try:
            while not self._over.is_set():
                with self._between[node.name]:
                    self._run(node, f"{node.name}{self.rounds[node.name]}", self.versions[node.name])
                    self.rounds[node.name] += 1
                with self._done:
                    self._done.notify_all()
                self._over.wait(0.5)
        except BaseException as error:
            self.failed.append(error)
            with self._done:
                self._done.notify_all()

    def until_all_have_written(self) -> None:
        """Waits until each program has run some more times."""
        wanted = {name: rounds + ROUNDS_AT_LEAST for name, rounds in self.rounds.items()}
        with self._done:
            assert self._done.wait_for(
                lambda: bool(self.failed) or all(self.rounds[name] >= rounds for name, rounds in wanted.items()), 120
            )
        assert self.failed == []

    @contextlib.contextmanager
    def stopped(self, node: NodeProcess) -> Iterator[None]:
        """The node's program does not run meanwhile, and is the next version afterwards. The others go on."""
        with self._between[node.name]:
            yield
            self.versions[node.name] += 1


def value(node: NodeProcess, sql: str) -> object:
    with contextlib.closing(opened(node)) as file:
        (found,) = file.execute(sql).fetchone()
        return found


def held(node: NodeProcess) -> list[object]:
    with contextlib.closing(opened(node)) as file:
        return (
            file.execute("SELECT name, value, reason FROM _litecast_held").fetchall()
            + file.execute("SELECT name FROM _litecast_held_tables").fetchall()
        )


def assert_migrated(nodes: Sequence[NodeProcess], tables: Sequence[str]) -> None:
    """Files are equal and nobody says that another has another schema."""
    settle(nodes, tables=tables, within_s=90)
    for node in nodes:
        assert held(node) == [], node.name
        node.until(lambda node=node: node.cluster()["replication"]["notes"] == [])  # type: ignore[misc]


# ---- Django

MODELS = """
import uuid
from django.db import models


class Book(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    {title}
    sold = models.BigIntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
{more}


class Sale(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    note = models.CharField(max_length=40)
"""
OLD_TITLE = "title = models.CharField(max_length=200)"
NEW_TITLE = "heading = models.TextField()"
NEW_FIELDS = """
    language = models.CharField(max_length=2, default="en")
    pages = models.IntegerField(null=True)
    liked = models.BigIntegerField(default=0)


class Review(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    text = models.TextField()
"""
SETTINGS = real.DJANGO_SETTINGS
FIRST = """
import uuid
from django.db import migrations, models

KEY = models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel("Book", [
            ("id", KEY.clone()),
            ("title", models.CharField(max_length=200)),
            ("sold", models.BigIntegerField(default=0)),
            ("price", models.DecimalField(decimal_places=2, max_digits=8, null=True)),
        ]),
        migrations.CreateModel("Sale", [("id", KEY.clone()), ("note", models.CharField(max_length=40))]),
    ]
"""
SECOND = """
import uuid
from django.db import migrations, models

KEY = models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AddField("book", "language", models.CharField(default="en", max_length=2)),
        migrations.AddField("book", "pages", models.IntegerField(null=True)),
        migrations.AddField("book", "liked", models.BigIntegerField(default=0)),
        migrations.RenameField("book", "title", "heading"),
        migrations.AlterField("book", "heading", models.TextField()),
        migrations.CreateModel("Review", [("id", KEY.clone()), ("text", models.TextField())]),
        migrations.AddIndex("book", models.Index(fields=["price"], name="by_price")),
    ]
"""
WRITER = """
import sys
from uuid import UUID
import django
django.setup()
from django.db import connection, transaction
from django.db.models import F
from shop import models
from shop.models import Book, Sale

who, version = sys.argv[1], int(sys.argv[2])
title = "title" if version == 1 else "heading"
shared = UUID(int=1)
for turn in range(6):
    with transaction.atomic():
        Book.objects.filter(pk=shared).update(sold=F("sold") + 1)
        Sale.objects.create(note=f"{who} {turn}")
    book = Book.objects.create(**{title: f"{who} {turn}"})
    if version == 2:
        Book.objects.filter(pk=shared).update(liked=F("liked") + 1)
        models.Review.objects.create(text=f"{who} {turn}")
        book.language, book.pages = "de", turn
    book.price = turn
    setattr(book, title, f"{who} {turn}!")
    book.save()
    if turn == 5:
        book.delete()
connection.close()
"""


class Shop:
    """A Django project, once for each version, as if each were deployed into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for version in (1, 2):
            files = {
                "settings.py": SETTINGS,
                "writer.py": WRITER,
                "shop/__init__.py": "",
                "shop/models.py": MODELS.format(
                    title=OLD_TITLE if version == 1 else NEW_TITLE, more="" if version == 1 else NEW_FIELDS
                ),
                "shop/migrations/__init__.py": "",
                "shop/migrations/0001_initial.py": FIRST,
                **({"shop/migrations/0002_change.py": SECOND} if version == 2 else {}),
            }
            for name, text in files.items():
                file = folder / str(version) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)

    def migrate(self, node: NodeProcess, version: int) -> None:
        real.run(*self._env(node, version), "-m", "django", "migrate", "--verbosity", "0")

    def write(self, node: NodeProcess, who: str, version: int) -> None:
        real.run(*self._env(node, version), self._folder / str(version) / "writer.py", who, version)

    def _env(self, node: NodeProcess, version: int) -> list[str]:
        settings = (f"DATABASE={node.database}", f"PYTHONPATH={self._folder / str(version)}")
        return ["env", *settings, "PYTHONDONTWRITEBYTECODE=1", "DJANGO_SETTINGS_MODULE=settings", sys.executable]


@real.needs_django
def test_a_django_project_migrates_node_by_node_while_both_versions_write(make: Make, tmp_path: Path) -> None:
    nodes = three(make, shop_book__counters=["sold"], shop_sale__merge="cell")
    shop = Shop(tmp_path / "shop")
    for node in nodes:
        shop.migrate(node, 1)
    with contextlib.closing(sqlite3.connect(nodes[0].database)) as file, file:
        file.execute("INSERT INTO shop_book (id, title, sold) VALUES (?, 'shared', 0)", (f"{1:032x}",))
    start(*nodes)
    settle(nodes, tables=("shop_book",))
    release(
        nodes,
        shop_book__counters=["sold", "liked"],
        shop_book__renamed={"title": "heading"},
        shop_review__merge="cell",
    )
    with Traffic(nodes, shop.write) as traffic:
        traffic.until_all_have_written()
        for node in nodes:
            with traffic.stopped(node):
                shop.migrate(node, 2)
            traffic.until_all_have_written()
    assert_migrated(nodes, ("shop_book", "shop_sale", "shop_review"))
    rounds = sum(traffic.rounds.values())
    first = nodes[0]
    assert value(first, "SELECT count(*) FROM shop_sale") == 6 * rounds
    assert value(first, f"SELECT sold FROM shop_book WHERE id = '{1:032x}'") == 6 * rounds
    assert value(first, "SELECT count(*) FROM shop_book") == 1 + 5 * rounds
    assert value(first, f"SELECT liked FROM shop_book WHERE id = '{1:032x}'") == value(
        first, "SELECT count(*) FROM shop_review"
    )
    assert value(first, "SELECT count(*) FROM shop_book WHERE heading NOT LIKE '%!' AND heading <> 'shared'") == 0
    assert value(first, "SELECT count(*) FROM shop_book WHERE language NOT IN ('en', 'de')") == 0


# ---- Alembic

ALEMBIC_ENV = """
import os
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(f"sqlite:///{os.environ['DATABASE']}", connect_args={"timeout": 20})
with engine.connect() as connection:
    context.configure(connection=connection, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
"""
ALEMBIC_FIRST = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "one", None


def upgrade():
    op.create_table(
        "notes",
        sa.Column("id", sa.String(36), primary_key=True, nullable=False),
        sa.Column("title", sa.String(100)),
        sa.Column("draft", sa.Boolean, nullable=True),
        sa.Column("seen", sa.Integer, nullable=False, server_default="0"),
    )
"""
ALEMBIC_SECOND = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "two", "one"


def upgrade():
    op.add_column("notes", sa.Column("lang", sa.String(2), nullable=False, server_default="en"))
    op.add_column("notes", sa.Column("likes", sa.Integer, nullable=False, server_default="0"))
    with op.batch_alter_table("notes", recreate="always") as batch:  # a new table, a copy, a drop, a rename
        batch.drop_column("draft")
        batch.alter_column("title", new_column_name="heading", type_=sa.Text)
        batch.add_column(sa.Column("tone", sa.String(10), nullable=False, server_default="low"))
    op.create_index("by_lang", "notes", ["lang"])
    op.create_table(
        "tags",
        sa.Column("note", sa.String(36), primary_key=True, nullable=False),
        sa.Column("word", sa.String(20), primary_key=True, nullable=False),
    )
"""
SQLALCHEMY_WRITER = """
import os, sys, uuid
from sqlalchemy import create_engine, text

who, version = sys.argv[1], int(sys.argv[2])
engine = create_engine(f"sqlite:///{os.environ['DATABASE']}", connect_args={"timeout": 20})
title = "title" if version == 1 else "heading"
for turn in range(10):
    key = str(uuid.uuid4())
    with engine.begin() as connection:
        connection.execute(text("UPDATE notes SET seen = seen + 1 WHERE id = 'shared'"))
        connection.execute(text(f"INSERT INTO notes (id, {title}) VALUES (:key, :title)"), {"key": key, "title": who})
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE notes SET {title} = {title} || '!' WHERE id = :key"), {"key": key})
        if version == 1:
            connection.execute(text("UPDATE notes SET draft = 1 WHERE id = :key"), {"key": key})
        else:
            connection.execute(text("UPDATE notes SET likes = likes + 1 WHERE id = 'shared'"))
            connection.execute(text("UPDATE notes SET lang = 'de' WHERE id = :key"), {"key": key})
            connection.execute(text("INSERT INTO tags VALUES (:key, 'new')"), {"key": key})
"""


class Notes:
    """A project with Alembic's migrations."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files = {
            "alembic.ini": f"[alembic]\nscript_location = {folder}/migrations\n",
            "migrations/env.py": ALEMBIC_ENV,
            "migrations/versions/one.py": ALEMBIC_FIRST,
            "migrations/versions/two.py": ALEMBIC_SECOND,
            "writer.py": SQLALCHEMY_WRITER,
        }
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def migrate(self, node: NodeProcess, revision: str) -> None:
        alembic = ("-m", "alembic", "-c", self._folder / "alembic.ini", "upgrade", revision)
        real.run("env", f"DATABASE={node.database}", "PYTHONDONTWRITEBYTECODE=1", sys.executable, *alembic)

    def write(self, node: NodeProcess, who: str, version: int) -> None:
        real.run("env", f"DATABASE={node.database}", sys.executable, self._folder / "writer.py", who, version)


@real.needs_sqlalchemy
def test_alembic_migrates_node_by_node_while_both_versions_write(make: Make, tmp_path: Path) -> None:
    nodes = three(make, notes__counters=["seen"])
    notes = Notes(tmp_path / "notes")
    for node in nodes:
        notes.migrate(node, "one")
    with contextlib.closing(sqlite3.connect(nodes[0].database)) as file, file:
        file.execute("INSERT INTO notes (id, title) VALUES ('shared', 'shared!')")
    start(*nodes)
    settle(nodes, tables=("notes",))
    release(nodes, notes__counters=["seen", "likes"], notes__renamed={"title": "heading"}, tags__merge="cell")
    with Traffic(nodes, notes.write) as traffic:
        traffic.until_all_have_written()
        for at, node in enumerate(nodes):
            with traffic.stopped(node):
                if at == 1:  # Litecast running or not
                    node.stop()
                notes.migrate(node, "two")
                if at == 1:
                    node.start_and_wait()
            traffic.until_all_have_written()
    assert_migrated(nodes, ("notes", "tags"))
    rounds = sum(traffic.rounds.values())
    first = nodes[0]
    assert value(first, "SELECT seen FROM notes WHERE id = 'shared'") == 10 * rounds
    assert value(first, "SELECT count(*) FROM notes") == 1 + 10 * rounds
    assert value(first, "SELECT likes FROM notes WHERE id = 'shared'") == value(first, "SELECT count(*) FROM tags")
    assert value(first, "SELECT count(*) FROM notes WHERE heading NOT LIKE '%!'") == 0
    assert value(first, "SELECT count(*) FROM notes WHERE lang = 'de'") == value(first, "SELECT count(*) FROM tags")
