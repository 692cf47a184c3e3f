"""What a client carries from one request to the next, so that it sees what it wrote: a position, signed.

    1 byte     the version, 1
    16 bytes   the site, without its "p": 12 hex digits of epoch, 19 random ones
    8 bytes    the stamp
    16 bytes   the first half of HMAC-SHA256 over all that, with a key made from the cluster's secret

as base64url without padding, 55 characters. Who forges one gains nothing but a wait; it is signed so that nobody who
plays with it has every node wait."""

import base64
import binascii
import hmac
from typing import Final

from replication.engine.stamps import STAMP_MAX, Site, Stamp, is_site
from replication.epoch_position import EpochPosition

VERSION: Final = 1
_MAC_BYTES: Final = 16
_SIGNED_BYTES: Final = 1 + 16 + 8
_TEXT_CHARS: Final = 55
_SITE_LIMIT: Final = 16**31


class TokenError(ValueError):
    """Not a position that this cluster gave out.

    TokenError
    ├── NotAToken      not of this form
    └── ForeignToken   signed with another key: forged, or of another cluster or secret
    """


class NotAToken(TokenError):
    """It is something else, or of a newer version."""

    def __init__(self) -> None:
        super().__init__("not a position token")


class ForeignToken(TokenError):
    """It was forged, or another cluster gave it out, or this one under another secret."""

    def __init__(self) -> None:
        super().__init__("a position token with another cluster's signature, or a forged one")


def signed(position: EpochPosition, key: bytes) -> str:
    """The token."""
    body = bytes([VERSION]) + int(position.site[1:], 16).to_bytes(16) + position.stamp.to_bytes(8)
    return _text(body, key)


def parse(text: str, key: bytes) -> EpochPosition:
    """The position that was signed. Raises NotAToken and ForeignToken."""
    if len(text) != _TEXT_CHARS:
        raise NotAToken
    try:
        raw = base64.b64decode(text + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise NotAToken from None
    body, mac = raw[:_SIGNED_BYTES], raw[_SIGNED_BYTES:]
    if not hmac.compare_digest(mac, _mac(body, key)):
        raise ForeignToken
    number, stamp = int.from_bytes(body[1:17]), int.from_bytes(body[17:])
    site = f"p{number:031x}"
    if body[0] != VERSION or number >= _SITE_LIMIT or stamp > STAMP_MAX or not is_site(site):
        raise NotAToken
    return EpochPosition.of(Site(site), Stamp(stamp))


def _text(body: bytes, key: bytes) -> str:
    return base64.urlsafe_b64encode(body + _mac(body, key)).rstrip(b"=").decode()


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, b"litecast position\0" + body, "sha256")[:_MAC_BYTES]
