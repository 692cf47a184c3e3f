"""What can go wrong in the application through no fault of the program.

    AppError
    ├── ConfigError         a setting that is missing, unknown, ill-typed or cannot be used
    ├── NodeUnreachable     a node that was asked over HTTP and did not answer as a node does
    ├── NodeRefused         a node that answered that it will not
    ├── AddressTaken        another node has the address that this one's Litestream would write to
    ├── AddressUnusable     that address, or what is remembered of it, cannot be reached or read
    └── NotConfirmedByUser  something that cannot be undone, and nobody said yes

`str()` of each is one line that says what is wrong, where, and what to do about it. The command line prints that line
and exits with status 1; see `app.cli`.
"""


class AppError(Exception):
    """Base of every error of the application that whoever runs it can do something about."""


class ConfigError(AppError):
    """A setting is missing, unknown, ill-typed or cannot be used; the text names the file or variable and the key."""


class NodeUnreachable(AppError):
    """A node that was asked over HTTP did not answer, or what answered is not a Litecast node."""


class NodeRefused(AppError):
    """A node that was asked over HTTP will not do what it was asked for; the text has its reason."""


class AddressTaken(AppError):
    """Another node has the address to which this one's Litestream would write; the text names it."""


class AddressUnusable(AppError):
    """The address for Litestream, or what this node remembers of it, cannot be reached, read or written."""


class NotConfirmedByUser(AppError):
    """What cannot be undone was not done, since nobody said yes to it."""
