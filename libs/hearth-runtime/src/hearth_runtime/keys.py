"""Keys, as every service knows them: the values of hearth/agent/v1/key.proto.

A key is `hearth_PREFIX_SECRET`. The prefix names it; the secret is 256 random bits. What is kept of it is its SHA-256:
a slow hash protects what people think up and machines can guess, and there is no guessing 256 bits, so that it would
only make each request slow.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

_FORM = re.compile(r"hearth_(?P<prefix>[a-z0-9]{10})_[A-Za-z0-9_-]{43}", re.ASCII)
_PREFIX_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
PREFIX_LENGTH = 10
SECRET_BYTES = 32


class Scope(StrEnum):
    """What a key may be used for."""

    AGENTS_READ = "agents:read"
    AGENTS_WRITE = "agents:write"
    RUNS_WRITE = "runs:write"
    LOGS_READ = "logs:read"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"  # all of it, of all owners


@dataclass(frozen=True, kw_only=True)
class Key:
    """What lets a client in: docs/security.md. The last three are bounds of its owner, None where there is none."""

    id: str
    prefix: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    tasks_per_minute: int | None
    concurrent_runs: int | None
    tokens_per_day: int | None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something that was done with a key, or tried without the right one."""

    at: datetime
    actor: str
    owner: str
    action: str
    target: str
    status: int
    code: str
    address: str


def new_key() -> tuple[str, str]:
    """The prefix of a new key, and the whole of it."""
    prefix = "".join(secrets.choice(_PREFIX_LETTERS) for _ in range(PREFIX_LENGTH))
    return prefix, f"hearth_{prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"


def prefix_of(key: str) -> str | None:
    """The prefix of a whole key; None where it is none."""
    matched = _FORM.fullmatch(key)
    return None if matched is None else matched["prefix"]


def digest_of(secret: str) -> bytes:
    """What is kept of a key, or of a ticket."""
    return hashlib.sha256(secret.encode()).digest()
