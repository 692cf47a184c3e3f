"""Programs that know nothing of Litecast write on two convergent nodes at once, as these run: both end equal."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import test_real_writers as real
from tests.support.convergent_nodes import Make, introduce, rows, settle, start
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def pair(make: Make, **tables: object) -> tuple[NodeProcess, NodeProcess]:
    """Two nodes whose settings declare these tables. None is started."""
    declared = {f"replication.tables.{key}": value for key, value in tables.items()}
    nodes = [make(name, replication__mode="convergent", **declared) for name in "ab"]
    introduce(nodes)
    for node in nodes:
        node.database.parent.mkdir(parents=True)
    return nodes[0], nodes[1]


@real.needs_shell
def test_sqlite_shells_on_two_running_nodes(make: Make) -> None:
    nodes = a, b = pair(make, pages__counters=["views"], links__merge="cell")
    for node in nodes:
        real.run("sqlite3", node.database, text=real.SHELL_SCHEMA)
    start(*nodes)
    work = [real.SHELL_WORK.replace("NAME", node.name) for node in nodes]
    real.run_together(*(["sqlite3", node.database] for node in nodes), texts=work)
    settle(nodes, tables=("pages", "links"))
    views = {page: views for page, _, views, _ in rows(b, "pages")}
    assert views["home"] == 10 + 2 * 2
    assert views["about"] == 20 + 2 * 1
    assert rows(a, "links")


@real.needs_sqlalchemy
def test_sqlalchemy_programs_on_two_running_nodes(make: Make, tmp_path: Path) -> None:
    nodes = _, b = pair(make, pages__counters=["views"], notes__merge="cell")
    program = tmp_path / "program.py"
    program.write_text(real.SQLALCHEMY_PROGRAM)
    for node in nodes:
        real.run(sys.executable, program, node.database, "create")
    start(*nodes)
    real.run_together(*([sys.executable, program, node.database, node.name] for node in nodes))
    settle(nodes, tables=("pages", "notes"))
    found = {name: views for _, name, views, _ in rows(b, "pages")}
    assert len(found) == 1 + 2 * 10
    assert found["home"] == 100 + 2 * 15
    assert len(rows(b, "notes")) == 2 * 10 * 3


@real.needs_django
def test_a_django_project_on_two_running_nodes_across_its_migration(make: Make, tmp_path: Path) -> None:
    nodes = a, b = pair(
        make,
        shop_author__merge="cell",
        shop_book__counters=["sold"],
        shop_shelf__merge="cell",
        django_session__merge="cell",
    )
    tables = ("shop_author", "shop_book", "shop_shelf", "django_session")
    django = real.Django(tmp_path / "project")
    for node in nodes:
        django.manage(node.database, "migrate", "--verbosity", "0")
    start(*nodes)
    for node in nodes:
        django.write(node.database, node.name, title="title")
    settle(nodes, tables=tables)
    django.release()
    django.manage(a.database, "migrate", "--verbosity", "0")
    django.write(a.database, "new", title="heading")  # while b still has the old schema
    django.manage(b.database, "migrate", "--verbosity", "0")
    settle(nodes, tables=tables)
    assert len(rows(b, "shop_book")) == 3 * 9 * 3
