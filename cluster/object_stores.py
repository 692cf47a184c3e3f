"""From a url to an object store, through obstore: `s3://bucket/folder`, `file:///folder`, and what else it knows.

Credentials come from where they belong (the environment, the machine's role), never from the url."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_SHOWN_MAX_CHARS: Final = 200
_ANSWERED: Final = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<\n]{1,200})</Message>")


_SCHEMES: Final = "write s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER or file:///FOLDER"


class NoStore(ValueError):
    """The url cannot be used; the text says why, and has no secret in it."""


def open_store(url: str, environ: Mapping[str, str], *, whose: str, **options: Any) -> "ObjectStore":
    """The store; nothing is asked yet. `whose`: what the url is of, for the text of a NoStore. `options`: obstore's."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        needs = "needs the package obstore: install litecast[object-store]"
        raise NoStore(f"a {whose} in an object store {needs}") from None
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise NoStore(f"the {whose}'s url has credentials in it: leave them to the environment (AWS_ACCESS_KEY_ID)")
    scheme = url.partition("://")[0]
    if scheme == "file":
        options = {"mkdir": True}
    elif scheme == "s3" and (endpoint := environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")):
        options["endpoint"] = endpoint
        if endpoint.startswith("http://"):
            options["client_options"] = {**options.get("client_options", {}), "allow_http": True}
    try:
        return from_url(url, **options)
    except (BaseError, ValueError, OSError) as error:
        raise NoStore(f"the {whose}'s url {url!r} cannot be used ({first_line(error)}): {_SCHEMES}") from None


async def create(store: "ObjectStore", name: str, content: bytes) -> bool:
    """Writes an object if there is none of that name: whether there was none. Raises what obstore raises."""
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    try:
        await obstore.put_async(store, name, content, mode="create", use_multipart=False)
    except (AlreadyExistsError, PreconditionError):
        return False
    return True


def first_line(error: Exception) -> str:
    """What a store has to say of an error, shortened: what it answered, where it did, and why."""
    text = str(error)
    if answered := _ANSWERED.search(text):
        why = [found[1] for found in (_CODE.search(text), _MESSAGE.search(text)) if found is not None]
        return f"it answered {answered[1].strip()}{f' ({": ".join(why)})' if why else ''}"[:_SHOWN_MAX_CHARS]
    return (text.splitlines() or [type(error).__name__])[0][:_SHOWN_MAX_CHARS]
