"""One small web program, in each of the frameworks: users whose email is UNIQUE and whose key SQLite hands out.

`POST /users?email=..` adds one, `GET /users` lists them, `POST /touch` writes what is there already, `POST /size`
measures the body, `GET /login?email=..` writes though it is a GET, and anything else says what the program saw of the
request."""

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from litecast import PrimaryAsgi, PrimaryWsgi
from tests.support.programs import served_asgi, served_wsgi


class Program:
    """What the program does, whatever framework it is in. `asked` are the requests that came to it."""

    def __init__(self, database: Path, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self.after_write: Callable[[], None] = lambda: None
        self._database = database

    def answer(
        self, method: str, path: str, query: str, body: bytes, seen: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON."""
        self.asked.append(f"{method} {path}")
        email = parse_qs(query).get("email", [""])[0]
        with contextlib.closing(sqlite3.connect(self._database, timeout=10, isolation_level=None)) as connection:
            try:
                match method, path:
                    case ("POST", "/users") | ("GET", "/login"):
                        cursor = connection.execute("INSERT INTO users (email) VALUES (?)", [email])
                        self.after_write()
                        return 201, {"id": cursor.lastrowid, "node": self.name}
                    case "POST", "/touch":
                        connection.execute("UPDATE users SET email = email")
                        return 200, {"node": self.name}
                    case "POST", "/size":
                        return 200, {"size": len(body), "node": self.name}
                    case "GET", "/users":
                        rows = connection.execute("SELECT email FROM users ORDER BY id").fetchall()
                        return 200, {"users": [row for (row,) in rows], "node": self.name}
                    case _:
                        return 200, {"node": self.name, "method": method, "path": path, "query": query, **seen}
            except sqlite3.IntegrityError as error:
                return (409 if "UNIQUE" in str(error) else 500), {"error": str(error)}


def flask_wsgi(program: Program) -> Any:
    import flask

    app = flask.Flask("program")

    @app.route("/", defaults={"rest": ""}, methods=["GET", "POST", "PUT"])
    @app.route("/<path:rest>", methods=["GET", "POST", "PUT"])
    def anything(rest: str) -> tuple[Any, int]:
        request = flask.request
        seen = {"client": request.remote_addr, "scheme": request.scheme, "headers": dict(request.headers)}
        body = request.get_data()
        status, found = program.answer(request.method, request.path, request.query_string.decode(), body, seen)
        return flask.jsonify(found), status

    return app.wsgi_app


def starlette_asgi(program: Program) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def anything(request: Request) -> Response:
        assert request.client is not None
        seen = {"client": request.client.host, "scheme": request.url.scheme, "headers": dict(request.headers)}
        body = await request.body()
        status, found = program.answer(request.method, request.url.path, request.url.query, body, seen)
        return JSONResponse(found, status)

    return Starlette(routes=[Route("/{rest:path}", anything, methods=["GET", "POST", "PUT"])])


def fastapi_asgi(program: Program) -> Any:
    import fastapi

    app = fastapi.FastAPI()

    async def anything(request: fastapi.Request, response: fastapi.Response) -> dict[str, Any]:
        assert request.client is not None
        seen = {"client": request.client.host, "scheme": request.url.scheme, "headers": dict(request.headers)}
        body = await request.body()
        response.status_code, found = program.answer(request.method, request.url.path, request.url.query, body, seen)
        return found

    app.add_api_route("/{rest:path}", anything, methods=["GET", "POST", "PUT"])
    return app


def _django(program: Program) -> None:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            ROOT_URLCONF=__name__,
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="tests",
            DATABASES={},
            MIDDLEWARE=[],
            DATA_UPLOAD_MAX_MEMORY_SIZE=None,
        )
        django.setup(set_prefix=False)
    _DJANGO[program.name] = program


_DJANGO: dict[str, Program] = {}


def _django_view(request: Any) -> Any:
    from django.http import JsonResponse

    program = _DJANGO[request.META["test.program"]] if "test.program" in request.META else _of_scope(request)
    meta = request.META
    seen = {"client": meta["REMOTE_ADDR"], "scheme": request.scheme, "headers": dict(request.headers)}
    status, found = program.answer(request.method, request.path, meta["QUERY_STRING"], request.body, seen)
    return JsonResponse(found, status=status)


def _of_scope(request: Any) -> Program:
    return _DJANGO[request.scope["test.program"]]


def _urlpatterns() -> list[Any]:
    from django.urls import re_path

    return [re_path(".*", _django_view)]


def __getattr__(name: str) -> Any:  # a list of Django's own, made only where Django is there
    if name == "urlpatterns":
        return _urlpatterns()
    raise AttributeError(name)


def django_wsgi(program: Program) -> Any:
    from django.core.handlers.wsgi import WSGIHandler

    _django(program)
    app = WSGIHandler()

    def named(environ: dict[str, Any], start_response: Any) -> Any:
        return app({**environ, "test.program": program.name}, start_response)

    return named


def django_asgi(program: Program) -> Any:
    from django.core.handlers.asgi import ASGIHandler

    _django(program)
    app = ASGIHandler()

    async def named(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await app({**scope, "test.program": program.name}, receive, send)

    return named


FRAMEWORKS: Mapping[str, tuple[Callable[[Program], Any], Any, Any]] = {
    "flask": (flask_wsgi, PrimaryWsgi, served_wsgi),
    "django over WSGI": (django_wsgi, PrimaryWsgi, served_wsgi),
    "django over ASGI": (django_asgi, PrimaryAsgi, served_asgi),
    "starlette": (starlette_asgi, PrimaryAsgi, served_asgi),
    "fastapi": (fastapi_asgi, PrimaryAsgi, served_asgi),
}
"""By name: what makes it, its middleware, what serves it."""
