"""The files beside a database, as a program sees them that looks all the time."""

import threading
from pathlib import Path

from replication.primary.beside import Beside

TIMES = 300
SAYS = [letter * size for letter, size in (("a", 20_000), ("b", 1), ("c", 9_000))]


def test_who_looks_all_the_time_never_sees_a_part_of_what_is_told(tmp_path: Path) -> None:
    beside = Beside(tmp_path / "app.db")
    files = [tmp_path / ".primary", tmp_path / "app.db-pos"]
    beside.tell(primary=SAYS[0], position=SAYS[0])
    seen: set[str] = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            seen.update(file.read_text() for file in files)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(TIMES):
        says = SAYS[number % len(SAYS)]
        beside.tell(primary=says, position=says)
    is_over.set()
    looking.join()
    assert len(seen) > 1, "it looked too seldom to show anything"
    assert seen <= {f"{says}\n" for says in SAYS}


def test_no_file_is_there_for_a_primary_that_is_this_node_or_not_known(tmp_path: Path) -> None:
    beside = Beside(tmp_path / "app.db")
    beside.tell(primary="b", position="1")
    beside.tell(primary=None, position="2")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"app.db-pos": "2\n"}
    beside.tell(primary="b", position="2")
    beside.clear()
    assert [file.name for file in tmp_path.iterdir()] == ["app.db-pos"]
