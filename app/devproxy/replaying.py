"""What `fly-replay` asks of the proxy, and what the one who gets the request then is told. Pure.

As Fly's proxy has it: a response with this header is not for the client; the request goes to whom it names, once more
and with its body. Fields stand between semicolons: `instance`, `prefer_instance`, `region` (several between commas),
`elsewhere=true`, `state`, `fallback=force_self|prefer_self`, `timeout`, `app`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.devproxy.pool import Backend

REPLAY: Final = "fly-replay"
REPLAY_SRC: Final = b"fly-replay-src"
REPLAY_FAILED: Final = b"fly-replay-failed"
BODY_MAX_BYTES: Final = 1_000_000
"""A larger body is passed on once; it cannot be sent again."""
REPLAYS_MAX: Final = 5
"""A request that is sent on more often goes round in a circle."""

_FALLBACKS: Final = ("force_self", "prefer_self")
_KNOWN: Final = frozenset(
    {"instance", "prefer_instance", "region", "elsewhere", "state", "fallback", "timeout", "app", "cache"}
)


class BadReplay(ValueError):
    """A node asked for a replay that this proxy cannot make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A request is to go to somebody else."""

    instance: str | None = None
    prefer_instance: str | None = None
    regions: tuple[str, ...] = ()
    elsewhere: bool = False
    state: str | None = None
    fallback: str | None = None

    def fits(self, asker: Backend) -> Callable[[Backend], bool]:
        """Whether a node may get the request."""

        def may_get(backend: Backend) -> bool:
            if self.instance is not None and backend.name != self.instance:
                return False
            if self.regions and backend.region not in self.regions:
                return False
            return not (self.elsewhere and backend.address == asker.address)

        return may_get


def parse_replay(value: str) -> Replay:
    """What the header's value asks for. Raises BadReplay."""
    fields: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in value.split(";"))):
        name, equals, text = part.partition("=")
        if not equals or name not in _KNOWN:
            raise BadReplay(f"fly-replay: {value[:100]!r} has a field {part[:50]!r}, which this proxy does not know")
        fields[name] = text
    if "app" in fields:
        raise BadReplay(f"fly-replay: {value[:100]!r} names another app, and there is only this one here")
    fallback = fields.get("fallback")
    if fallback is not None and fallback not in _FALLBACKS:
        raise BadReplay(f"fly-replay: fallback is {' or '.join(_FALLBACKS)}, not {fallback[:50]!r}")
    replay = Replay(
        instance=fields.get("instance"),
        prefer_instance=fields.get("prefer_instance"),
        regions=tuple(region.strip() for region in fields.get("region", "").split(",") if region.strip()),
        elsewhere=fields.get("elsewhere") == "true",
        state=fields.get("state"),
        fallback=fallback,
    )
    if not (replay.instance or replay.prefer_instance or replay.regions or replay.elsewhere):
        raise BadReplay(f"fly-replay: {value[:100]!r} does not say who is to get the request")
    return replay


def source(asker: Backend, replay: Replay, *, at_us: int) -> bytes:
    """The value of `fly-replay-src`: who sent the request on, when (microseconds since 1970), and its state."""
    return _fields(("instance", asker.name), ("region", asker.region), ("t", str(at_us)), ("state", replay.state))


def failed(replay: Replay, *, reason: str) -> bytes:
    """The value of `fly-replay-failed`, for the node that a request came back to."""
    return _fields(
        ("instance", replay.instance or replay.prefer_instance),
        ("region", ",".join(replay.regions) or None),
        ("reason", reason),
        ("state", replay.state),
    )


def _fields(*fields: tuple[str, str | None]) -> bytes:
    return ";".join(f"{name}={value}" for name, value in fields if value is not None).encode("latin-1", "replace")
