"""The name of a page, from the path of a request.

A name is what one path segment holds: `a%2Fb` is the page `a/b`, and not two segments. That is why the raw path is
taken apart before anything is decoded. Names are compared as they are; nothing is normalised.
"""

import unicodedata
from urllib.parse import quote, unquote_to_bytes

from starlette.exceptions import HTTPException
from starlette.types import Scope

from app.report import PAGE_MAX_CHARACTERS


def page_path(scope: Scope, prefix: str) -> tuple[str, str]:
    """The page and what follows it: `/api/pages/home/views` under `/api/pages/` is `("home", "views")`.

    Raises `HTTPException` 404 for a path of another shape, 400 for a name that no page can have.
    """
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    segments = raw.removeprefix(prefix.encode()).split(b"/")
    if len(segments) > 2:
        raise HTTPException(404, "no such path; a slash in a page's name is written %2F")
    try:
        page = unquote_to_bytes(segments[0]).decode()
    except UnicodeDecodeError:
        raise HTTPException(400, "a page's name must be UTF-8, percent-encoded") from None
    check_page(page)
    return page, segments[1].decode("ascii", "replace") if len(segments) == 2 else ""


def check_page(page: str) -> None:
    """Raise `HTTPException` 400 unless `page` is 1 to 200 characters long and has no control characters."""
    if not page:
        raise HTTPException(400, "a page needs a name")
    if len(page) > PAGE_MAX_CHARACTERS:
        raise HTTPException(400, f"a page's name has at most {PAGE_MAX_CHARACTERS} characters, this one {len(page)}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in page):
        raise HTTPException(400, "a page's name may hold no control characters")
