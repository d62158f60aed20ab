"""JSON Web Tokens of an identity provider: https://www.rfc-editor.org/rfc/rfc7519.

A token is taken that this provider signed, for this audience, with a key of its key set or the shared secret. Which
algorithms there are is decided by which of the two is set, never by the token: a public key is no secret for HMAC.
"""

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import jwt
from hearth_runtime.errors import KeyRefused, Unavailable
from hearth_runtime.keys import Scope
from hearth_runtime.principals import Principal
from jwt.exceptions import PyJWKSetError, PyJWTError
from loguru import logger

from gateway.caller import Caller
from gateway.settings import GatewaySettings

OF_KEY_SETS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
OF_SECRETS = ("HS256", "HS384", "HS512")
REQUIRED = ("exp", "iss", "aud", "sub")
LEEWAY_SECONDS = 10.0
# Tokens of bigger companies have a few KiB.
TOKEN_CHARACTERS = 16 * 1024
SUBJECT_CHARACTERS = 200
# A key set is read again when it is old, and when a token names a key that it has not, but not more often than this.
KEYS_FRESH_SECONDS = 300.0
KEYS_AGAIN_SECONDS = 30.0
KEYS_TIMEOUT_SECONDS = 5.0
KEYS_BYTES = 1024 * 1024


class Tokens:
    """Checks tokens by the settings."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._keys: jwt.PyJWKSet | None = None
        self._read_at = -KEYS_FRESH_SECONDS
        self._reading = asyncio.Lock()

    async def caller_of(self, token: str) -> Caller:
        """Whom the token names. Raises KeyRefused, and Unavailable where the key set cannot be had."""
        claims = await self._claims(token)
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARACTERS:
            raise KeyRefused(f"The token's subject must have 1 to {SUBJECT_CHARACTERS} characters.")
        scope = claims.get("scope", "")
        named = scope.split() if isinstance(scope, str) else scope if isinstance(scope, list) else []
        scopes = frozenset(known.value for known in Scope if known.value in named)
        return Caller(
            actor=f"jwt:{subject}",
            principal=Principal(
                owner=f"jwt:{subject}",
                sees_all=Scope.ADMIN in scopes,
                tasks_per_minute=self._settings.jwt_tasks_per_minute,
                concurrent_runs=self._settings.jwt_concurrent_runs,
                tokens_per_day=self._settings.jwt_tokens_per_day,
            ),
            scopes=scopes,
            expires_at=float(claims["exp"]),
        )

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            if len(token) > TOKEN_CHARACTERS:
                raise jwt.DecodeError("it is too long")
            header = jwt.get_unverified_header(token)
            secret = self._settings.jwt_secret
            if secret is not None:
                key: Any = secret.get_secret_value()
                algorithms: tuple[str, ...] = OF_SECRETS
            else:
                key, algorithms = await self._key(header.get("kid")), OF_KEY_SETS
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(REQUIRED)},
            )
        except PyJWTError as error:
            logger.info("a token was refused", reason=str(error))
            raise KeyRefused(
                "The token is not valid here: it is forged, over, or for somebody else. Get another one."
            ) from None
        return claims

    async def _key(self, key_id: object) -> jwt.PyJWK:
        async with self._reading:
            age = time.monotonic() - self._read_at
            found = _named(self._keys, key_id)
            if self._keys is None or age > KEYS_FRESH_SECONDS or (found is None and age > KEYS_AGAIN_SECONDS):
                await self._read()
                found = _named(self._keys, key_id)
        if found is None:
            raise jwt.DecodeError("its key is none of the key set's")
        return found

    async def _read(self) -> None:
        source = self._settings.jwt_jwks or ""
        self._read_at = time.monotonic()
        try:
            self._keys = jwt.PyJWKSet.from_json(await asyncio.to_thread(_text, source))
        except (OSError, ValueError, PyJWKSetError) as error:
            logger.warning("the key set cannot be read", source=source, error=repr(error))
            if self._keys is None:
                raise Unavailable("The keys that tokens are checked with cannot be had. Try again later.") from None


def _named(keys: jwt.PyJWKSet | None, key_id: object) -> jwt.PyJWK | None:
    of_set = [] if keys is None else keys.keys
    if key_id is None:
        return of_set[0] if len(of_set) == 1 else None
    return next((key for key in of_set if key.key_id == key_id), None)


def _text(source: str) -> str:
    if not source.startswith("https://") and not source.startswith("http://"):
        return Path(source).read_text()
    with urlopen(source, timeout=KEYS_TIMEOUT_SECONDS) as answer:  # noqa: S310 - a setting names it
        text: bytes = answer.read(KEYS_BYTES)
    return text.decode()
