"""Who may change the cluster over HTTP, or look into its tables.

Where there is a secret, who has it: the admin token is made from it and from the cluster's name, and comes as
`Authorization: Bearer TOKEN`. Where there is none, the bus is open to this machine alone, and so is this: a request
must come from loopback, not through a proxy, and name a loopback host, so that no page of another site, shown by a
browser on this machine, can ask by a name that it made to point here.
"""

import hmac
import ipaddress
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

_ADMINS: Final = (
    "the admin token, which is made from the cluster's secret: give litecast the secret that the nodes have "
    "(LITECAST_BUS__SECRET or LITECAST_BUS__SECRET_FILE), or a node's --config FILE"
)
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "fly-client-ip", "via")


class AdminGate:
    """Lets through who may. `token`: None where the cluster has no secret. `needs`: what is said to who lacks it."""

    def __init__(self, token: str | None, needs: str = _ADMINS) -> None:
        self._token = token
        self._needs = needs

    def check(self, request: Request) -> None:
        """Raises HTTPException 401 or 403, whose text says what is missing."""
        if self._token is None:
            _check_is_from_here(request)
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token.encode()):
            raise HTTPException(401, f"this needs {self._needs}", {"www-authenticate": "Bearer"})

    def check_change(self, request: Request) -> None:
        """As `check`, for requests that change something. A browser sends no JSON elsewhere without asking first."""
        self.check(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the body must be JSON, and content-type say so: application/json")


def _check_is_from_here(request: Request) -> None:
    client = request.client.host if request.client is not None else ""
    host = request.url.hostname or ""
    if not _is_loopback(client) or not (host == "localhost" or _is_loopback(host)):
        raise HTTPException(403, "a cluster without a secret answers this only on the node's own machine, by loopback")
    if any(name in request.headers for name in _FORWARDED):
        raise HTTPException(403, "a cluster without a secret does not answer this through a proxy")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
