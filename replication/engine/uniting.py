"""A column got the name under which others have written it already: what came from them is united with what is here.

In the transaction that looks at the schema anew. Cells that came under the new name are held; of each, the later write
stays. One that wins is left held, to be shown with everything else that is: into a cell that still shows what was last
known of it, so that what an application wrote since the last fold wins."""

from typing import cast

from replication.engine import held
from replication.engine.contributions import saturated
from replication.engine.entries import split
from replication.engine.held import HeldCell
from replication.engine.merging import Contribution
from replication.engine.renaming import Renamed
from replication.engine.statements import Statement
from replication.engine.table import Table
from replication.engine.transacting import writing_rows
from replication.engine.values import Key, Value, fetch


def unite(table: Table, renamed: Renamed) -> None:
    """Moves what stands under the number that others' name had to the column's own."""
    if renamed.others is None:
        return
    for key in held.keys(table.connection, table.spec.tid):
        cell = held.of_key(table.connection, table.spec.tid, key).get(renamed.name)
        if cell is not None:
            _unite_cell(table, key, cell, renamed, renamed.others)
    _unite_counts(table, renamed, renamed.others)


def _unite_cell(table: Table, key: Key, cell: HeldCell, renamed: Renamed, others: int) -> None:
    entry = table.entry_row(key)
    if entry is None or not cast("int", entry[0]) & 1:
        return
    life, stamp, site, blob = entry
    born, later = split(cast("bytes", blob))
    site_of = _sites(table)

    def written(number: int) -> tuple[tuple[int, str], int] | None:
        """When and by whom, and the hash of what."""
        if number in born:
            return (cast("int", stamp), site_of[cast("int", site)]), born[number]
        if number in later:
            return (later[number][1], site_of[later[number][2]]), later[number][0]
        return None

    mine, theirs = written(renamed.number), written(others)
    if theirs is None or (mine is not None and mine[0] > theirs[0]):
        held.drop(table.connection, table.spec.tid, key, renamed.name)
    else:
        for number in (born, later):
            number.pop(renamed.number, None)
        if others in born:
            born[renamed.number] = born[others]
        else:
            later[renamed.number] = later[others]
        shown = None if mine is None else mine[1]
        moved = HeldCell(value=cell.value, shown=shown, reason=cell.reason)
        held.put(table.connection, table.spec.tid, key, renamed.name, moved)
    born.pop(others, None)
    later.pop(others, None)
    table.put_entry.run(table.connection, (*key, life, stamp, site, table.shapes.join(born, later)))


def _sites(table: Table) -> dict[int, str]:
    return dict(table.connection.execute("SELECT short, site FROM main._litecast_sites").fetchall())


def _unite_counts(table: Table, renamed: Renamed, others: int) -> None:
    """Each site's later share stays, and the counter shows so much more, or less, as the sum is another."""
    spec, connection = table.spec, table.connection
    size = len(spec.key)
    came = fetch(
        connection,
        f"SELECT {table.keys}, life, site, stamp, value FROM main.{spec.count} WHERE counter = {others}",
    )
    more: dict[Key, int] = {}
    for row in came:
        key = row[:size]
        life, site, stamp, value = cast("tuple[int, int, int, int]", row[size:])
        mine = next(
            (
                Contribution(cast("int", at), cast("int", share))
                for number, by, share, at in table.counts(key, life)
                if number == renamed.number and by == site
            ),
            None,
        )
        theirs = Contribution(stamp, value)
        if mine is None or theirs > mine:
            table.put_count.run(connection, (*key, renamed.number, life, site, value, stamp))
            more[key] = more.get(key, 0) + value - (mine.value if mine else 0)
    connection.execute(f"DELETE FROM main.{spec.count} WHERE counter = {others}")
    if renamed.name in spec.counters:
        _add_to_rows(table, renamed.name, more)


def _add_to_rows(table: Table, name: str, more: dict[Key, int]) -> None:
    update: Statement = table.update((name,))
    with writing_rows(table.connection, table):
        for key, amount in more.items():
            row = table.row(key)
            value: Value = None if row is None else row[name]
            if amount and isinstance(value, int):
                update.run(table.connection, (saturated(value + amount), *key))
