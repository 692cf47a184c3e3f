"""What keeps an act from being run."""

from app.errors import AppError


class DemoError(AppError):
    """An act could not be run. `log_tail` is the end of the log of the node that is to blame, if one is."""

    def __init__(self, message: str, *, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail
