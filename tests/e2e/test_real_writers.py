"""Programs that know nothing of Litecast, as processes of their own: whatever they commit arrives in a second database.

Each test makes a database the program's way, copies it, attaches both, lets the program write into the first one, and
carries what the fold finds to the copy. Then all attached tables are equal, counters included.
"""

import json
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from replication.engine.applying import Merged, merge
from replication.engine.attaching import TableChoice, attach
from replication.engine.catalogue import load
from replication.engine.folding import fold
from replication.engine.stamps import Site
from replication.tables import quoted

ROOT = Path(__file__).parents[2]
NOW_MS = 1_700_000_000_000
WITHIN_S = 50
LITECAST = [sys.executable, "-c", "from app.cli import main; raise SystemExit(main())"]

needs_shell = pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3 shell is installed")
needs_sqlalchemy = pytest.mark.skipif(find_spec("sqlalchemy") is None, reason="SQLAlchemy is not installed")
needs_django = pytest.mark.skipif(find_spec("django") is None, reason="Django is not installed")


class Pair:
    """The database that programs write, and the one that hears of it."""

    def __init__(self, here: Path, there: Path, choices: Sequence[TableChoice]) -> None:
        self._now_ms = NOW_MS
        with ExitStack() as stack:
            self.here, self.there = (
                stack.enter_context(closing(sqlite3.connect(path, isolation_level=None, timeout=20)))
                for path in (here, there)
            )
            for end in (self.here, self.there):
                attach(end, choices, cluster="writers", new_site=lambda: Site(secrets.token_hex(16)))
            self._closing = stack.pop_all()

    def close(self) -> None:
        self._closing.close()

    def carry(self) -> int:
        """Folds what was committed and merges it on the other side; gives the number of rows."""
        self._now_ms += 1000
        folded = fold(self.here, now_ms=self._now_ms)
        if folded is None:
            return 0
        outcome = merge(self.there, folded.encoded, now_ms=self._now_ms)
        assert isinstance(outcome, Merged), outcome
        assert not outcome.held
        return folded.rows

    def assert_equal(self) -> None:
        """All attached tables are equal, nothing is pending, and both files are whole."""
        assert load(self.here).keys() == load(self.there).keys()
        for name, spec in load(self.here).items():
            key = ", ".join(quoted(column) for column in spec.key)
            rows = [end.execute(f"SELECT * FROM {quoted(name)} ORDER BY {key}").fetchall() for end in self.ends]
            assert rows[0] == rows[1], name
        for end in self.ends:
            assert fold(end, now_ms=self._now_ms + 1) is None
            assert end.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    @property
    def ends(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        return self.here, self.there


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Pairs put into it are closed."""
    made: list[Pair] = []
    yield made
    for pair in made:
        pair.close()


def pair_of(path: Path, choices: Sequence[TableChoice], pairs: list[Pair]) -> Pair:
    """`path` and a copy of it, both attached."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("VACUUM INTO ?", (str(path.with_name("there.db")),))
    pairs.append(Pair(path, path.with_name("there.db"), choices))
    return pairs[-1]


def run(*command: object, text: str | None = None, cwd: Path = ROOT) -> str:
    """What a process printed. It must succeed."""
    done = subprocess.run(
        [str(part) for part in command], input=text, cwd=cwd, capture_output=True, text=True, timeout=WITHIN_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_together(*commands: Sequence[object], texts: Sequence[str] = ()) -> None:
    """Several processes at once. All must succeed."""
    processes = [
        subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for command in commands
    ]
    try:
        for process, text in zip(processes, texts or [""] * len(processes), strict=True):
            assert process.stdin is not None
            process.stdin.write(text.encode())
            process.stdin.close()
            process.stdin = None
        for process in processes:
            output, _ = process.communicate(timeout=WITHIN_S)
            assert process.returncode == 0, output.decode()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def verdict(path: Path, table: str) -> str:
    """What `litecast attach` says of a table: "attached", or the codes of its refusals."""
    command = [*LITECAST, "attach", str(path), "--table", table, "--dry-run", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S)
    answer = json.loads(done.stdout)
    return " ".join(one["code"] for one in answer["refused"]) if "refused" in answer else "attached"


SHELL_SCHEMA = """
CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, title TEXT, views INTEGER NOT NULL DEFAULT 0, data BLOB);
CREATE TABLE links (source TEXT, target TEXT, note, PRIMARY KEY (source, target),
    FOREIGN KEY (target) REFERENCES pages ON DELETE CASCADE ON UPDATE CASCADE) WITHOUT ROWID;
INSERT INTO pages (page, views) VALUES ('home', 10), ('about', 20), ('empty', 0);
INSERT INTO links VALUES ('home', 'about', NULL);
"""
SHELL_WORK = """
.timeout 20000
PRAGMA trusted_schema = OFF;
PRAGMA foreign_keys = ON;
INSERT INTO pages (page, title, data) VALUES ('NAME-1', 'one', x'00ff'), ('NAME-2', char(0x1F600), NULL);
BEGIN;
INSERT INTO pages (page, views) VALUES ('home', 1) ON CONFLICT (page) DO UPDATE SET views = views + 1;
SAVEPOINT s;
DELETE FROM pages;
ROLLBACK TO s;
INSERT OR IGNORE INTO pages (page) VALUES ('home'), ('NAME-3');
COMMIT;
INSERT INTO links VALUES ('NAME-1', 'NAME-2', 1.5), ('NAME-1', 'NAME-3', CAST(x'61ff00' AS TEXT));
UPDATE pages SET page = 'NAME-22', views = views + 5 WHERE page = 'NAME-2';
REPLACE INTO pages (page, title) VALUES ('NAME-1', 'one again');
PRAGMA recursive_triggers = ON;
REPLACE INTO pages (page, title, views) VALUES ('NAME-1', 'and again', 3);
UPDATE OR REPLACE pages SET page = 'NAME-1' WHERE page = 'NAME-22';
DELETE FROM pages WHERE page = 'NAME-3';
BEGIN;
UPDATE pages SET views = -1;
ROLLBACK;
UPDATE pages SET views = views + 1 WHERE page IN ('home', 'about');
"""


@needs_shell
def test_what_sqlite_shells_commit_arrives(tmp_path: Path, pairs: list[Pair]) -> None:
    path = tmp_path / "here.db"
    run("sqlite3", path, text=SHELL_SCHEMA)
    pair = pair_of(path, [TableChoice(name="pages", counters=("views",)), TableChoice(name="links")], pairs)
    for end in pair.ends:
        end.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    run("sqlite3", path, text=SHELL_WORK.replace("NAME", "alone"))
    assert pair.carry() > 0
    pair.assert_equal()
    names = [f"shell{number}" for number in range(3)]
    run_together(*[["sqlite3", path]] * 3, texts=[SHELL_WORK.replace("NAME", name) for name in names])
    assert pair.carry() > 0
    pair.assert_equal()
    assert pair.there.execute("SELECT views FROM pages WHERE page = 'home'").fetchone() == (10 + 4 + 4,)
    assert pair.there.execute("SELECT count(*) FROM links WHERE source LIKE 'shell%'").fetchone() == (3,)


@needs_shell
def test_imports_renamed_columns_and_vacuum_by_a_shell_arrive(tmp_path: Path, pairs: list[Pair]) -> None:
    path = tmp_path / "here.db"
    run("sqlite3", path, text=SHELL_SCHEMA)
    pair = pair_of(path, [TableChoice(name="pages", counters=("views",)), TableChoice(name="links")], pairs)
    rows = tmp_path / "rows.csv"
    rows.write_text("".join(f"page-{number},title {number},{number},\n" for number in range(500)))
    run("sqlite3", path, text=f".import --csv {rows} pages\nALTER TABLE pages RENAME COLUMN title TO heading;\n")
    run("sqlite3", path, text="DELETE FROM pages WHERE views % 2; VACUUM; PRAGMA journal_mode;")
    pair.there.execute("ALTER TABLE pages RENAME COLUMN title TO heading")
    assert pair.carry() == 250
    pair.assert_equal()


SQLALCHEMY_PROGRAM = """
import sys, uuid
from sqlalchemy import ForeignKey, LargeBinary, create_engine, delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "pages"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str]
    views: Mapped[int] = mapped_column(default=0)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    notes: Mapped[list["Note"]] = relationship(cascade="all, delete-orphan")


class Note(Base):
    __tablename__ = "notes"
    page: Mapped[uuid.UUID] = mapped_column(ForeignKey("pages.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str | None]


path, who = sys.argv[1:]
engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 20})
if who == "create":
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Page(id=uuid.UUID(int=1), name="home", views=100))
else:
    for turn in range(15):
        with Session(engine) as session, session.begin():
            page = Page(name=f"{who} {turn}", body=bytes([turn]) * 10)
            page.notes = [Note(number=number, text=f"note {number}") for number in range(3)]
            session.add(page)
            session.execute(update(Page).where(Page.name == "home").values(views=Page.views + 1))
        with Session(engine) as session, session.begin():
            page = session.scalars(select(Page).where(Page.name == f"{who} {turn}")).one()
            page.notes.pop()
            page.notes[0].text = None
            page.views += 7
            try:
                with session.begin_nested():
                    session.add(Note(page=page.id, number=0))
                    session.flush()
            except Exception:
                pass
            session.execute(
                insert(Note)
                .values([{"page": page.id, "number": n, "text": "again"} for n in (1, 2)])
                .on_conflict_do_update(index_elements=["page", "number"], set_={"text": "upserted"})
            )
        with Session(engine) as session:
            session.execute(delete(Note))
            session.rollback()
        if turn % 3 == 0:
            with Session(engine) as session, session.begin():
                session.delete(session.scalars(select(Page).where(Page.name == f"{who} {turn}")).one())
"""


@needs_sqlalchemy
@pytest.mark.slow
def test_what_sqlalchemy_programs_commit_arrives(tmp_path: Path, pairs: list[Pair]) -> None:
    path, program = tmp_path / "here.db", tmp_path / "program.py"
    program.write_text(SQLALCHEMY_PROGRAM)
    run(sys.executable, program, path, "create")
    assert [verdict(path, table) for table in ("pages", "notes")] == ["attached", "attached"]
    pair = pair_of(path, [TableChoice(name="pages", counters=("views",)), TableChoice(name="notes")], pairs)
    run_together(*([sys.executable, program, path, who] for who in ("one", "two")))
    assert pair.carry() > 0
    pair.assert_equal()
    assert pair.there.execute("SELECT views FROM pages WHERE name = 'home'").fetchone() == (130,)
    assert pair.there.execute("SELECT count(*), sum(views) FROM pages").fetchone() == (21, 130 + 20 * 7)
    assert pair.there.execute("SELECT count(*) FROM notes").fetchone() == (60,)


DJANGO_SETTINGS = """
import os
SECRET_KEY = "only a test"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"],
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
DJANGO_MODELS = """
import uuid
from django.db import models


class Author(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80)


class Book(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    heading = models.TextField()
    sold = models.BigIntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    language = models.CharField(max_length=2, default="en")
    shelves = models.ManyToManyField("Shelf")


class Shelf(models.Model):
    code = models.CharField(primary_key=True, max_length=10)
    room = models.PositiveIntegerField(default=1)


class Customer(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(unique=True)
"""
DJANGO_FIRST = """
import uuid
import django.db.models.deletion
from django.db import migrations, models

KEY = models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel("Author", [("id", KEY.clone()), ("name", models.CharField(max_length=80))]),
        migrations.CreateModel("Shelf", [
            ("code", models.CharField(max_length=10, primary_key=True, serialize=False)),
            ("room", models.PositiveIntegerField(default=1)),
        ]),
        migrations.CreateModel("Customer", [("id", KEY.clone()), ("email", models.EmailField(unique=True))]),
        migrations.CreateModel("Book", [
            ("id", KEY.clone()),
            ("title", models.CharField(max_length=200)),
            ("sold", models.BigIntegerField(default=0)),
            ("price", models.DecimalField(decimal_places=2, max_digits=8, null=True)),
            ("author", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="shop.author")),
            ("shelves", models.ManyToManyField(to="shop.shelf")),
        ]),
    ]
"""
DJANGO_SECOND = """
from django.db import migrations, models
from django.db.models.functions import Upper


def shout(apps, schema_editor):
    apps.get_model("shop", "Author").objects.update(name=Upper("name"))


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AddField("book", "language", models.CharField(default="en", max_length=2)),
        migrations.RenameField("book", "title", "heading"),
        migrations.AlterField("book", "heading", models.TextField()),  # rebuilds the table, and so drops its triggers
        migrations.RunPython(shout, migrations.RunPython.noop),
    ]
"""
DJANGO_WRITER = """
import sys
from uuid import UUID
import django
django.setup()
from django.db import connection, transaction
from django.db.models import F
from shop.models import Author, Book, Shelf
from django.contrib.sessions.backends.db import SessionStore

who = sys.argv[1]
title = sys.argv[2]
# By key: nothing but the key is unique, and two writers may come here at once.
first, _ = Author.objects.get_or_create(pk=UUID(int=1), defaults={"name": "FIRST"})
for turn in range(12):
    author = Author.objects.create(name=f"{who} {turn}")
    with transaction.atomic():
        books = Book.objects.bulk_create([Book(author=author, **{title: f"{who} {turn} {n}"}) for n in range(4)])
    Book.objects.filter(author=author).update(sold=F("sold") + 2)
    book = books[0]
    book.refresh_from_db()
    book.price = "12.50"
    book.save()
    books[3].delete()
    try:
        with transaction.atomic():
            Book.objects.all().delete()
            raise ValueError
    except ValueError:
        pass
    books[1].price = "1.25"
    Book.objects.bulk_create([books[1]], update_conflicts=True, update_fields=["price"], unique_fields=["id"])
    Shelf.objects.update_or_create(code=f"{who}-{turn % 4}", defaults={"room": turn})
    if turn % 4 == 0:
        author.delete()  # and its books
    store = SessionStore()
    store["turn"] = turn
    store.save()
    store["turn"] = -turn
    store.save()
    if turn % 2:
        store.delete()
connection.close()
"""
DJANGO_STARTS_WITH_TITLES = """
import uuid
from django.db import models


class Author(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80)


class Book(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)
    sold = models.BigIntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)


class Shelf(models.Model):
    code = models.CharField(primary_key=True, max_length=10)
    room = models.PositiveIntegerField(default=1)
"""
DJANGO_VERDICTS = {
    "shop_author": "attached",
    "shop_book": "attached",
    "shop_shelf": "attached",
    "django_session": "attached",
    "shop_customer": "unique",
    "shop_book_shelves": "key-from-sqlite unique",
    "django_migrations": "key-from-sqlite",
    "django_content_type": "key-from-sqlite unique",
    "auth_permission": "key-from-sqlite unique",
    "auth_group": "key-from-sqlite unique",
    "auth_group_permissions": "key-from-sqlite unique",
    "auth_user": "key-from-sqlite unique",
    "auth_user_groups": "key-from-sqlite unique",
    "auth_user_user_permissions": "key-from-sqlite unique",
}


class Django:
    """A Django project in a folder. It is not installed anywhere: each run is a process that starts there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files = {
            "settings.py": DJANGO_SETTINGS,
            "writer.py": DJANGO_WRITER,
            "shop/__init__.py": "",
            "shop/models.py": DJANGO_STARTS_WITH_TITLES,
            "shop/migrations/__init__.py": "",
            "shop/migrations/0001_initial.py": DJANGO_FIRST,
        }
        for name, text in files.items():
            self._write(name, text)

    def release(self) -> None:
        """The project's next version, with its migration."""
        self._write("shop/models.py", DJANGO_MODELS)
        self._write("shop/migrations/0002_change.py", DJANGO_SECOND)

    def manage(self, database: Path, *arguments: str) -> str:
        return run(*self._env(database), sys.executable, "-m", "django", *arguments, cwd=self._folder)

    def write(self, database: Path, *writers: str, title: str) -> None:
        run_together(
            *([*self._env(database), sys.executable, self._folder / "writer.py", writer, title] for writer in writers)
        )

    def _env(self, database: Path) -> list[str]:
        settings = (f"DATABASE={database}", f"PYTHONPATH={self._folder}", "PYTHONDONTWRITEBYTECODE=1")
        return ["env", *settings, "DJANGO_SETTINGS_MODULE=settings"]

    def _write(self, name: str, text: str) -> None:
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@needs_django
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_a_django_project_commits_arrives_also_across_its_migrations(tmp_path: Path, pairs: list[Pair]) -> None:
    path = tmp_path / "here.db"
    django = Django(tmp_path / "project")
    django.manage(path, "migrate", "--verbosity", "0")
    pair = pair_of(
        path,
        [
            TableChoice(name="shop_author"),
            TableChoice(name="shop_book", counters=("sold",)),
            TableChoice(name="shop_shelf"),
            TableChoice(name="django_session"),
        ],
        pairs,
    )
    django.write(path, "one", "two", title="title")
    assert pair.carry() > 0
    pair.assert_equal()
    assert pair.there.execute("SELECT sum(sold), count(*) FROM shop_book").fetchone() == (2 * 9 * 3 * 2, 2 * 9 * 3)

    django.release()
    django.manage(path, "migrate", "--verbosity", "0")
    django.write(path, "three", title="heading")  # with what the rebuild left of the triggers
    django.manage(tmp_path / "there.db", "migrate", "--verbosity", "0")
    assert pair.carry() > 0
    pair.carry()
    pair.assert_equal()
    django.write(path, "four", "five", title="heading")
    assert pair.carry() > 0
    pair.assert_equal()
    assert pair.there.execute("SELECT sum(sold), count(*) FROM shop_book").fetchone() == (5 * 9 * 3 * 2, 5 * 9 * 3)
    assert pair.there.execute("SELECT count(*) FROM shop_author WHERE name = upper(name)").fetchone() == (2 * 9 + 1,)


@needs_django
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_these_tables_of_a_django_project_can_be_attached_and_these_not(tmp_path: Path) -> None:
    path = tmp_path / "here.db"
    Django(tmp_path / "project").manage(path, "migrate", "--verbosity", "0")
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
        ).fetchall()
    assert {name: verdict(path, name) for (name,) in names} == DJANGO_VERDICTS
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE '%litecast%'").fetchone() == (0,)
