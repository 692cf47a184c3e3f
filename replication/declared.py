"""Tables that a node's settings declare, and attaching those of them that can be.

A declaration says how a table is kept, whether it exists yet or not, and in whichever mode the node runs: `merge`,
`counters` and `shared_ids` for attaching it, `renamed` for when its columns get other names, `drift_ignore` for
comparing it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from replication.engine.catalogue import MergeRule
from replication.engine.refusals import TableChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDeclaration:
    """`[replication.tables.NAME]`: what the settings say of one table."""

    name: str
    """As the settings spell it: SQLite tells no capitals apart."""
    counters: tuple[str, ...] = ()
    """Columns in which what each node adds is added up, instead of the last write winning."""
    merge: MergeRule = MergeRule.CELL
    shared_ids: bool = False
    """The application chooses the table's integer keys, and no two nodes choose one twice."""
    drift_ignore: tuple[str, ...] = ()
    """Columns that may differ between nodes without being drift."""

    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Columns that a migration renames: the old name, and the new one."""

    @property
    def choice(self) -> TableChoice:
        """What attach is asked for."""
        return TableChoice(
            name=self.name,
            counters=self.counters,
            rule=self.merge,
            shared_ids=self.shared_ids,
            renamed=self.renamed,
            may_be_ahead=True,
        )
