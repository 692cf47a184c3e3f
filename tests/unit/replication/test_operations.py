"""Statements that are forwarded: what is told from what, and in what time."""

import time

import pytest

from replication.errors import CannotForward
from replication.primary.operations import check_is_write


@pytest.mark.parametrize("opened", ["[", "'", '"', "`", "/*", "'\""])
def test_a_statement_of_a_megabyte_that_closes_nothing_is_looked_at_in_no_time(opened: str) -> None:
    sql = "PRAGMA x " + opened + "[" * 1_000_000
    began_s = time.monotonic()
    with pytest.raises(CannotForward):
        check_is_write(sql)
    assert time.monotonic() - began_s < 2.0


def test_words_in_names_texts_and_comments_make_no_statement_a_write() -> None:
    for sql in ("WITH x AS (SELECT 1) SELECT 'INSERT' FROM x", 'WITH "UPDATE" AS (SELECT 1) SELECT 1 /* DELETE */'):
        with pytest.raises(CannotForward, match="writes nothing"):
            check_is_write(sql)
    check_is_write("-- it's one\nWITH x AS (SELECT ';') DELETE FROM t")
