"""Templates and static files, read once: a page must not depend on what happens to the folder later."""

import hashlib
import html
from collections.abc import Mapping
from pathlib import Path
from string import Template

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class StaticFiles:
    """The files of `static/`, by name. There are a few, and they are small."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for path in sorted((FOLDER / "static").iterdir()):
            if path.suffix in TYPES:
                body = path.read_bytes()
                self._files[path.name] = body, TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:20]}"'

    async def serve(self, request: Request) -> Response:
        """The file of that name; 304 if the browser has it already, 404 if there is none."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "no such file")
        body, content_type, etag = found
        # Asked for again each time, answered by 304: after an upgrade a page never runs with yesterday's script.
        headers = {"cache-control": "no-cache", "etag": etag}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, headers={**headers, "content-type": content_type})


class Page:
    """One HTML template. `$name` is replaced by the text `name`, escaped; `$name_html` by HTML as it is."""

    def __init__(self, name: str) -> None:
        self._template = Template((FOLDER / "templates" / name).read_text(encoding="utf-8"))

    def render(self, values: Mapping[str, object], *, status: int = 200) -> Response:
        """The page with these values. Raises KeyError for one that is missing."""
        text = self._template.substitute(
            {name: str(value) if name.endswith("_html") else html.escape(str(value)) for name, value in values.items()}
        )
        return Response(
            text, status_code=status, headers={"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
        )
