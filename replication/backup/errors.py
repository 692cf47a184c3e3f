"""What can go wrong with a backup, as one tree.

    BackupError
    ├── BackupUrlError       a url that cannot be used
    ├── BackupUnreachable    the store did not answer, or not in time: it can be tried again
    ├── BackupRefused        what is at the url is not this cluster's backup: .place .problem .remedy
    ├── BackupDamaged        an object that is not as it was written, or is missing: .place .problem
    ├── NothingToRestore     .place; no snapshot is complete there
    ├── NotInBackup          the moment or position that was asked for is not there: .place .problem .remedy
    └── CannotRestore        .path .problem .remedy; the file that was to be made

`str()` of each is one line that an operator can act on. None of them leaves anything half done."""

from pathlib import Path

from replication.errors import ReplicationError


class BackupError(ReplicationError):
    """Base of all that backup and restore raise on purpose."""


class BackupUrlError(BackupError):
    """The url names no store, or has in it what does not belong there."""


class BackupUnreachable(BackupError):
    """The store did not do what was asked, or nobody knows whether it did."""

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(f"{place} cannot be reached: {problem}")


class BackupRefused(BackupError):
    """What stands there is somebody else's. Nothing was written."""

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        self.place = place
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{place} {problem}: {remedy}")


class BackupDamaged(BackupError):
    """An object of a backup cannot be used. Nothing was put in place."""

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(f"{place} {problem}; put it back, if the bucket keeps versions")


class NothingToRestore(BackupError):
    """No snapshot is complete at the url."""

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(
            f"{place} has no complete snapshot: nothing can be restored from it; see that the url is right"
        )


class NotInBackup(BackupError):
    """Something is there, and not what was asked for: a moment, or a position. Nothing was made."""

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        self.place = place
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{place} {problem}: {remedy}")


class CannotRestore(BackupError):
    """The file cannot be made. What was there is there."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        self.path = path
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{path} {problem}: {remedy}")
