"""The keys that secrets are encrypted with: AES-256-GCM, and bound to what they are secrets of.

Ciphertext is a byte for this format, four that name the key, a nonce of twelve, and what AES-GCM gives. A key encrypts
at most 2^32 messages by random nonces: https://csrc.nist.gov/pubs/sp/800/38/d/final, section 8.3.
"""

import base64
import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hearth_runtime.errors import SecretKeyMissing

KEY_BYTES = 32
FORMAT = b"\x01"
ID_BYTES, NONCE_BYTES = 4, 12
HOW_TO_MAKE_A_KEY = (
    "Make a key with `openssl rand -base64 32`, set HEARTH_SECRET_KEY to it for both processes of agent-service and "
    "restart them."
)


class Undecipherable(Exception):
    """None of the keys has made this ciphertext for this purpose."""


class SecretKeys:
    """The keys in their order: the first encrypts, each decrypts what it has made. There may be none."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._ciphers = {_id(key): AESGCM(key) for key in keys}

    @classmethod
    def parse(cls, text: str | None) -> "SecretKeys":
        """Keys in base64, separated by commas. Raises ValueError, which does not show them."""
        words = [word.strip() for word in (text or "").split(",")]
        return cls(tuple(_key(word) for word in words if word))

    def encrypt(self, plain: bytes, *, purpose: str) -> bytes:
        """Ciphertext that only `decrypt` with the same purpose can read. Raises SecretKeyMissing."""
        key_id, cipher = self._first()
        nonce = secrets.token_bytes(NONCE_BYTES)
        return FORMAT + key_id + nonce + cipher.encrypt(nonce, plain, purpose.encode())

    def is_current(self, ciphertext: bytes) -> bool:
        """Whether the first key has made this ciphertext. Raises SecretKeyMissing."""
        return ciphertext.startswith(FORMAT + self._first()[0])

    def decrypt(self, ciphertext: bytes, *, purpose: str) -> bytes:
        """What was encrypted for this purpose. Raises Undecipherable."""
        head = len(FORMAT)
        key_id, rest = ciphertext[head : head + ID_BYTES], ciphertext[head + ID_BYTES :]
        cipher = self._ciphers.get(key_id)
        if ciphertext[:head] != FORMAT or cipher is None:
            raise Undecipherable
        try:
            return cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise Undecipherable from error

    def _first(self) -> tuple[bytes, AESGCM]:
        if not self._ciphers:
            raise SecretKeyMissing(f"A tool has secrets, and HEARTH_SECRET_KEY is not set. {HOW_TO_MAKE_A_KEY}")
        return next(iter(self._ciphers.items()))


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"hearth secret key" + key).digest()[:ID_BYTES]


def _key(word: str) -> bytes:
    try:
        # Both alphabets of RFC 4648, with or without padding.
        plain = word.replace("-", "+").replace("_", "/").rstrip("=")
        key = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as error:
        raise ValueError("must be base64, or several separated by commas: openssl rand -base64 32 makes one") from error
    if len(key) != KEY_BYTES:
        raise ValueError(f"must be {KEY_BYTES} bytes in base64, and is {len(key)}: openssl rand -base64 32 makes one")
    return key
