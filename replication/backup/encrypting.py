"""What an encrypted backup's objects are made of, and its keys. Pure, but for the random bytes.

    offset  size
         0     4   "LCBK"
         4     1   format of the envelope: 1
         5     1   how the rest is packed: 2 is encrypted
         6    32   salt: random, of this object alone
        38     -   AES-256-GCM of what the object would be if it were plain, and its tag

**The data key** is random, made once for a backup. An object's own key and nonce are made from it and the salt (HKDF).
So no nonce is ever used twice with one key, however many objects there are. The tag covers the six bytes before the
salt and the object's name as well: what is altered, cut off, or put in another object's place has another tag.

**The data key lies in the bucket**, in an object `keys/FINGERPRINT` like any other, encrypted with a key that is made
from the cluster's secret and name. The name is the fingerprint of that key. Whoever has a secret finds its copy, if
there is one. Another secret needs another copy, and no object is written again."""

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cluster.security import Secret, derive
from replication.backup.envelope import ENCRYPTED, FORMAT, MAGIC

KEY_BYTES: Final = 32
_SALT_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEAD: Final = MAGIC + bytes([FORMAT, ENCRYPTED])
OVERHEAD_BYTES: Final = len(_HEAD) + _SALT_BYTES + _TAG_BYTES


class CannotDecrypt(ValueError):
    """The bytes are not what was encrypted with this key under this name. The text goes on after the place."""


class Key:
    """A key that does not show itself."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        """Raises ValueError if it is not of KEY_BYTES."""
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self._raw = raw

    def __repr__(self) -> str:
        return "Key(…)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Key is not pickled")

    @property
    def fingerprint(self) -> str:
        """32 hex digits that name the key, and do not tell it."""
        return hashlib.blake2b(self._raw, digest_size=16, person=b"litecast backup").hexdigest()

    def encrypt(self, name: str, content: bytes) -> bytes:
        """The object of this name."""
        salt = os.urandom(_SALT_BYTES)
        cipher, nonce = self._cipher(salt)
        return _HEAD + salt + cipher.encrypt(nonce, content, _HEAD + name.encode())

    def decrypt(self, name: str, sealed: bytes) -> bytes:
        """What was encrypted under this name. Raises CannotDecrypt."""
        if not sealed:
            raise CannotDecrypt("is empty")
        if not sealed.startswith(_HEAD):
            raise CannotDecrypt(_why_not(sealed))
        start = len(_HEAD) + _SALT_BYTES
        cipher, nonce = self._cipher(sealed[len(_HEAD) : start])
        try:
            return cipher.decrypt(nonce, sealed[start:], _HEAD + name.encode())
        except InvalidTag:
            raise CannotDecrypt("is truncated, altered, or put in the place of another object") from None

    def wrap(self, name: str, key: "Key") -> bytes:
        """The object of this name that holds another key."""
        return self.encrypt(name, key._raw)

    def unwrap(self, name: str, sealed: bytes) -> "Key":
        """The key in an object. Raises CannotDecrypt."""
        raw = self.decrypt(name, sealed)
        if len(raw) != KEY_BYTES:
            raise CannotDecrypt("holds no key")
        return Key(raw)

    def _cipher(self, salt: bytes) -> tuple[AESGCM, bytes]:
        hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES + _NONCE_BYTES, salt=salt, info=b"litecast backup object v1")
        found = hkdf.derive(self._raw)
        return AESGCM(found[:KEY_BYTES]), found[KEY_BYTES:]


def new_key() -> Key:
    """A key that nobody has had."""
    return Key(os.urandom(KEY_BYTES))


def key_of(secret: Secret, cluster: str) -> Key:
    """With which the data key is encrypted, for who has the secret."""
    return Key(derive(secret, cluster, "litecast backup key v1"))


def _why_not(sealed: bytes) -> str:
    if sealed[: len(MAGIC)] != MAGIC[: len(sealed)]:
        return "is no object of a backup"
    if len(sealed) > len(MAGIC) and sealed[len(MAGIC)] > FORMAT:
        return f"has format {sealed[len(MAGIC)]}, and formats up to {FORMAT} are known; upgrade litecast"
    return "is not encrypted, as all of this backup is"
