"""`python -m app` is the command `litecast`."""

from app.cli import program

program()
