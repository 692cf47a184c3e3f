"""A lease in Consul: one key, locked by a session of the node that holds it, with the grant as its value.

Consul keeps a session at least for its TTL after it was made or renewed, and at most for twice that; then it lets the
key go, and lets nobody lock it for another second (`LOCK_DELAY_S`). So a holder that counts from before it asked has
stopped by then. The session has no health checks, which would end it sooner; an operator who destroys it by hand
while its node writes leaves that node the time until it would have been renewed.

The value is written, and the key locked, in one transaction that also checks that the key is as it was when its epoch
was read: so no two grants have one epoch. The key stays when the lease is released or runs out."""

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

from cluster.errors import (
    LeaseError,
    LeaseHeld,
    LeaseLost,
    LeaseRefused,
    LeaseUnreachable,
    LeaseUnusable,
    LeaseUrlError,
)
from cluster.lease.deciding import good_until_s, has_run_out, renew_at_s
from cluster.lease.interface import Grant, Holding
from cluster.lease.record import Record, decode

if TYPE_CHECKING:
    import httpx

LOCK_DELAY_S: Final = 1
KEY: Final = "litecast-lease"
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_SERVER_ERROR: Final = 500
_REFUSED: Final = "Invalid "
"""How it begins to say that a session cannot be as it was asked for."""
_TOO_MANY: Final = 429
_SHOWN_MAX_CHARS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulPlace:
    """Where the key is: `url` has no path and no token."""

    url: str
    key: str
    token: str | None

    def __str__(self) -> str:
        return f"the key {self.key} of {self.url}"


def consul_place(url: str | None, environ: Mapping[str, str]) -> ConsulPlace:
    """`url`: `http://HOST:PORT/FOLDER`; None: what `FLY_CONSUL_URL` says, which has its token in it. Else the token is
    `CONSUL_HTTP_TOKEN`. Raises LeaseUrlError."""
    given = url or environ.get("FLY_CONSUL_URL")
    if not given:
        raise LeaseUrlError("a lease in consul needs [lease] url, or FLY_CONSUL_URL (`fly consul attach` sets it)")
    try:
        parts = urlsplit(given)
        host, port, password = parts.hostname, parts.port, parts.password
    except ValueError:
        parts, host, port, password = urlsplit(""), None, None, None
    if parts.scheme not in ("http", "https") or not host:
        raise LeaseUrlError("the lease's url is not Consul's: it is like http://HOST:8500/FOLDER")
    if url is not None and "@" in parts.netloc:
        raise LeaseUrlError("the lease's url has credentials in it: leave them to the environment (CONSUL_HTTP_TOKEN)")
    shown = f"[{host}]" if ":" in host else host
    return ConsulPlace(
        url=f"{parts.scheme}://{shown}" + (f":{port}" if port else ""),
        key="/".join(filter(None, [unquote(parts.path).strip("/"), KEY])),
        token=unquote(password) if password else environ.get("CONSUL_HTTP_TOKEN"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    index: int
    """Consul's number of the key's last change."""
    session: str | None
    record: Record
    first_s: float
    """Of the own clock, after it was first read."""


class ConsulLease:
    """See the module. `nonce` gives another text each time. Each question has a third of the lease's time."""

    def __init__(
        self,
        place: ConsulPlace,
        *,
        cluster: str,
        node: str,
        ttl_s: float,
        clock: Callable[[], float],
        nonce: Callable[[], str],
    ) -> None:
        self._place = place
        self._cluster = cluster
        self._node = node
        self._ttl_s = ttl_s
        self._clock = clock
        self._nonce = nonce
        self._client: httpx.AsyncClient | None = None
        self._seen: _Seen | None = None
        self._held: tuple[str, Record] | None = None
        """The session, and what it wrote."""

    async def read(self) -> Holding | None:
        """See `Lease.read`."""
        seen = await self._look()
        if seen is None:
            return None
        record = seen.record
        return Holding(node=record.node, epoch=record.epoch, is_released=record.is_released, successor=record.successor)

    async def acquire(self, *, above: int) -> Grant:
        """See `Lease.acquire`."""
        looked_at_s = self._clock()
        seen = await self._look()
        if seen is not None and not self._may_follow(seen, looked_at_s):
            raise LeaseHeld(seen.record.node, seen.record.epoch)
        record = Record(
            cluster=self._cluster,
            node=self._node,
            epoch=max(above, 0 if seen is None else seen.record.epoch) + 1,
            ttl_s=self._ttl_s,
            nonce=self._nonce(),
        )
        asked_at_s = self._clock()
        session = await self._begin_session()
        try:
            await self._lock(session, record, seen)
        except (LeaseError, LeaseUnusable):
            await self._end_session(session)
            raise
        self._held = session, record
        return self._granted(record, asked_at_s)

    async def renew(self, grant: Grant) -> Grant:
        """See `Lease.renew`."""
        asked_at_s = self._clock()
        if self._held is None or asked_at_s >= grant.good_until_s:
            raise LeaseLost(grant.epoch, "it ran out before it was renewed")
        session, record = self._held
        status, _ = await self._ask("PUT", f"/v1/session/renew/{session}", may_be=_NOT_FOUND)
        if status == _NOT_FOUND:
            raise LeaseLost(grant.epoch, "Consul knows its session no more")
        seen = await self._look()
        if seen is None or seen.session != session or seen.record.nonce != record.nonce:
            raise LeaseLost(grant.epoch, f"somebody else wrote {self._place}, or deleted it")
        return self._granted(record, asked_at_s)

    async def release(self, grant: Grant, *, successor: str | None = None) -> None:
        """See `Lease.release`."""
        if self._held is None:
            return
        (session, held), self._held = self._held, None
        record = replace(held, nonce=self._nonce(), is_released=True, successor=successor)
        await self._transact([self._step("unlock", Session=session, Value=_encoded(record))])
        await self._end_session(session)

    def _granted(self, record: Record, asked_at_s: float) -> Grant:
        return Grant(
            epoch=record.epoch,
            good_until_s=good_until_s(asked_at_s=asked_at_s, ttl_s=self._ttl_s),
            renew_at_s=renew_at_s(asked_at_s=asked_at_s, ttl_s=self._ttl_s),
        )

    def _may_follow(self, seen: _Seen, looked_at_s: float) -> bool:
        record = seen.record
        if seen.session is not None:
            return False
        if not record.is_released or record.successor in (None, self._node):
            return True
        return has_run_out(first_seen_s=seen.first_s, asked_at_s=looked_at_s, ttl_s=record.ttl_s)

    async def _look(self) -> _Seen | None:
        path = f"/v1/kv/{quote(self._place.key)}?consistent"
        status, answer = await self._ask("GET", path, may_be=_NOT_FOUND)
        if status == _NOT_FOUND:
            return None
        match answer:
            case [{"ModifyIndex": int(index), "Value": str() | None as value, **rest}]:
                session = rest.get("Session")
                content = base64.b64decode(value or "")
            case _:
                raise LeaseUnreachable(f"{self._place.url} does not answer as Consul does")
        record = decode(content, place=str(self._place), cluster=self._cluster)
        if self._seen is None or self._seen.index != index:
            self._seen = _Seen(
                index=index,
                session=session if isinstance(session, str) else None,
                record=record,
                first_s=self._clock(),
            )
        return self._seen

    # --- sessions and transactions ---

    async def _begin_session(self) -> str:
        wanted = {
            "Name": f"litecast {self._cluster} {self._node}"[:_SHOWN_MAX_CHARS],
            "TTL": f"{self._ttl_s * 1000:.0f}ms",
            "LockDelay": f"{LOCK_DELAY_S}s",
            "Behavior": "release",
            "NodeChecks": [],
        }
        match await self._ask("PUT", "/v1/session/create", wanted):
            case _, {"ID": str(session)}:
                return session
            case _:
                raise LeaseUnreachable(f"{self._place.url} does not answer as Consul does")

    async def _end_session(self, session: str) -> None:
        """Where that fails, it ends by itself."""
        with contextlib.suppress(LeaseError, LeaseUnusable):
            await self._ask("PUT", f"/v1/session/destroy/{session}")

    async def _lock(self, session: str, record: Record, seen: _Seen | None) -> None:
        unchanged = self._step("check-not-exists") if seen is None else self._step("check-index", Index=seen.index)
        if not await self._transact([unchanged, self._step("lock", Session=session, Value=_encoded(record))]):
            raise LeaseHeld("another node, which was faster, or may still be", record.epoch)

    def _step(self, verb: str, **rest: object) -> dict[str, object]:
        return {"KV": {"Verb": verb, "Key": self._place.key, **rest}}

    async def _transact(self, steps: list[dict[str, object]]) -> bool:
        """False if it could not be done as things are."""
        status, _ = await self._ask("PUT", "/v1/txn", steps, may_be=_CONFLICT)
        return status != _CONFLICT

    async def _ask(self, method: str, path: str, content: object = None, *, may_be: int = 0) -> tuple[int, Any]:
        """The status, 200 or `may_be`, and what was answered."""
        import httpx

        if self._client is None:
            headers = {} if self._place.token is None else {"X-Consul-Token": self._place.token}
            # No connection is kept, so that there is none to close.
            limits = httpx.Limits(max_keepalive_connections=0)
            self._client = httpx.AsyncClient(
                base_url=self._place.url, headers=headers, limits=limits, timeout=None, trust_env=False
            )
        timeout_s = self._ttl_s / 3
        body = None if content is None else json.dumps(content).encode()
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.request(method, path, content=body)
        except TimeoutError:
            raise LeaseUnreachable(f"no answer within {timeout_s:.1f} s") from None
        except httpx.HTTPError as error:
            raise LeaseUnreachable(f"{self._place.url}: {str(error) or type(error).__name__}") from error
        return self._checked(response, may_be)

    def _checked(self, response: "httpx.Response", may_be: int) -> tuple[int, Any]:
        status = response.status_code
        if status == may_be:
            return status, None
        is_refused = response.text.startswith(_REFUSED)  # which Consul answers with 500 as well
        if (status >= _SERVER_ERROR or status == _TOO_MANY) and not is_refused:
            raise LeaseUnreachable(f"{self._place.url} answered {status}: {response.text[:_SHOWN_MAX_CHARS]}")
        if not response.is_success:
            raise LeaseRefused(str(self._place), f"{status} {response.text[:_SHOWN_MAX_CHARS]}".strip())
        try:
            return status, response.json()
        except ValueError:
            raise LeaseUnreachable(f"{self._place.url} does not answer as Consul does") from None


def _encoded(record: Record) -> str:
    return base64.b64encode(record.encoded()).decode()
