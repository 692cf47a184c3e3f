"""One secret, and the keys made from it.

Everybody who knows the secret and the cluster's name can make the same keys: there is no key to distribute but the
secret itself. HKDF (RFC 5869) with the cluster's name as salt makes one key pair for the listening side and one for the
dialling side, so that another secret *or* another name gives other keys, and a stranger is refused in the CURVE
handshake, before anything of his is decoded.
"""

import hmac
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from zmq.utils import z85

from cluster.errors import SecretError

SECRET_MIN_CHARS: Final = 32
KEYGEN_BYTES: Final = 32
_KEY_BYTES: Final = 32


class Secret:
    """A secret text that does not show itself: not in `repr`, `str`, logs or tracebacks. `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Raises SecretError if the text is shorter than 32 characters."""
        if len(text) < SECRET_MIN_CHARS:
            raise SecretError(
                f"the secret has {len(text)} characters, at least {SECRET_MIN_CHARS} are needed: "
                "make one with 'litecast keygen'"
            )
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for deriving keys and for nothing else."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


def make_secret() -> str:
    """A new secret: 64 hex digits from the system's random source."""
    return os.urandom(KEYGEN_BYTES).hex()


def read_secret_file(path: Path) -> Secret:
    """The secret in a file, without surrounding white space. Raises SecretError, naming the file and the remedy."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise SecretError(
            f"cannot read the secret file {path}: {why}; make one with 'litecast keygen --output {path}'"
        ) from exc
    if not text:
        raise SecretError(f"the secret file {path} is empty; make one with 'litecast keygen --output {path}'")
    return Secret(text)


def is_readable_by_others(path: Path) -> bool:
    """Whether users other than the owner and his group may read the file."""
    return bool(path.stat().st_mode & stat.S_IROTH)


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """Z85 texts, as ZeroMQ takes them. The listening side has one pair, the dialling side another."""

    server_public: bytes
    server_secret: bytes
    client_public: bytes
    client_secret: bytes

    def __repr__(self) -> str:
        return "CurveKeys(…)"

    def admits(self, client_public: bytes) -> bool:
        """Whether a dialling side with this raw public key (32 bytes) belongs to the cluster."""
        return hmac.compare_digest(client_public, z85.decode(self.client_public))


def derive_curve_keys(secret: Secret, cluster: str) -> CurveKeys:
    """The bus's keys for this secret and cluster name; the same on every node."""
    server_secret = z85.encode(derive(secret, cluster, "litecast bus server v1"))
    client_secret = z85.encode(derive(secret, cluster, "litecast bus client v1"))
    return CurveKeys(
        server_public=zmq.curve_public(server_secret),
        server_secret=server_secret,
        client_public=zmq.curve_public(client_secret),
        client_secret=client_secret,
    )


def derive_admin_token(secret: Secret, cluster: str) -> str:
    """What a node wants to hear over HTTP from who changes something, or looks into tables: 64 hex digits."""
    return derive(secret, cluster, "litecast admin token v1").hex()


def derive_token_key(secret: Secret | None, cluster: str) -> bytes:
    """Signs the positions that clients of programs carry along, and what nodes say of requests that they forward. A
    program beside a node is told it, and can make no other key of it. Without a secret anybody can make it."""
    if secret is None:
        return hmac.digest(cluster.encode(), b"litecast tokens without a secret v1", "sha256")
    return derive(secret, cluster, "litecast position tokens v1")


def derive(secret: Secret, cluster: str, purpose: str) -> bytes:
    """32 bytes for one purpose (HKDF-SHA256, salt: the cluster's name, info: the purpose)."""
    hkdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=cluster.encode(), info=purpose.encode())
    return hkdf.derive(secret.reveal().encode())
