"""What a start script needs before it lets Litestream restore a database."""

import shlex
from pathlib import Path

from app.errors import AddressUnusable
from replication.convergent.sidecar import NONCE_FILE


def without_database(database: Path, data_dir: Path) -> None:
    """Where there is no database any more, takes away what belonged to it. Raises AddressUnusable.

    - Its `-wal` and `-shm`: SQLite would read them as part of the file that is restored.
    - The nonce of the last run: what comes back is perhaps of an earlier moment of that very run. It has to go on under
      a new site, and alone, with no peer that could tell, it would not know. See `replication.engine.identity`.
    """
    if database.exists():
        return
    for left in (
        database.with_name(f"{database.name}-wal"),
        database.with_name(f"{database.name}-shm"),
        data_dir / NONCE_FILE,
    ):
        try:
            left.unlink(missing_ok=True)
        except OSError as error:
            raise AddressUnusable(
                f"{left} is of a database that is gone, and cannot be removed ({error.strerror}); remove it"
            ) from error


def shell_variables(*, database: Path, url: str, claim: int) -> str:
    """Lines for a shell's `eval`."""
    values = {"LITESTREAM_DATABASE": database, "LITESTREAM_REPLICA": url, "LITESTREAM_CLAIM": claim}
    return "\n".join(f"export {name}={shlex.quote(str(value))}" for name, value in values.items())
