"""Keys: who gets one, what for, and whom it lets in."""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hearth_runtime.errors import FieldViolation, InvalidArgument, KeyNotFound, KeyRefused
from hearth_runtime.identifiers import new_id
from hearth_runtime.keys import Action, Key, Scope, digest_of, new_key
from loguru import logger

from agent_service.key_store import StoredKeys

OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@|/+-]{0,199}", re.ASCII)
NAME_CHARACTERS = 100
ADMINS_ACTOR = "admin"


@dataclass(frozen=True, kw_only=True)
class KeyDraft:
    """What a key is to be. Without an owner of its own, it is one by itself."""

    name: str
    owner: str | None
    scopes: tuple[str, ...]
    tasks_per_minute: int | None
    concurrent_runs: int | None
    tokens_per_day: int | None
    expires_at: datetime | None


class Keys:
    """Makes keys, revokes them and tells which let in."""

    def __init__(self, stored: StoredKeys) -> None:
        self._stored = stored

    async def create(self, draft: KeyDraft) -> tuple[Key, str]:
        """A new key, and the whole of it as a client sends it, which nobody is told again. Raises InvalidArgument."""
        _check(draft)
        prefix, secret = new_key()
        key = await self._stored.insert(
            Key(
                id=new_id(),
                prefix=prefix,
                name=draft.name,
                owner=draft.owner or f"key:{prefix}",
                scopes=tuple(dict.fromkeys(draft.scopes)),
                tasks_per_minute=draft.tasks_per_minute,
                concurrent_runs=draft.concurrent_runs,
                tokens_per_day=draft.tokens_per_day,
                expires_at=draft.expires_at,
            ),
            digest_of(secret),
        )
        logger.info("key created", prefix=key.prefix, owner=key.owner, scopes=key.scopes)
        await self._note("keys create", key)
        return key, secret

    async def revoke(self, prefix: str) -> Key:
        """Lets the key in no more; again is harmless. Raises KeyNotFound."""
        key = await self._stored.revoke(prefix)
        logger.info("key revoked", prefix=key.prefix, owner=key.owner)
        await self._note("keys revoke", key)
        return key

    async def verify(self, prefix: str, digest: bytes) -> Key:
        """The key of this prefix and digest. Raises KeyRefused, which does not tell what is wrong with it."""
        try:
            key, known, is_valid = await self._stored.get(prefix)
        except KeyNotFound:
            raise _refused() from None
        if not hmac.compare_digest(known, digest) or not is_valid:
            raise _refused()
        return key

    async def _note(self, action: str, key: Key) -> None:
        done = Action(
            at=datetime.now(UTC),
            actor=ADMINS_ACTOR,
            owner=key.owner,
            action=action,
            target=key.prefix,
            status=0,
            code="",
            address="",
        )
        await self._stored.append_actions([done])


def _refused() -> KeyRefused:
    return KeyRefused(
        "The key is not known, was revoked, or its time is over. Ask whoever runs Hearth for another one."
    )


def _check(draft: KeyDraft) -> None:
    wrong: list[FieldViolation] = []
    if not draft.name.strip() or len(draft.name) > NAME_CHARACTERS:
        wrong.append(FieldViolation(field="name", message=f"must have 1 to {NAME_CHARACTERS} characters"))
    if draft.owner is not None and not OWNER.fullmatch(draft.owner):
        wrong.append(FieldViolation(field="owner", message="must be letters, digits and . _ : @ | / + -"))
    unknown = _unknown(draft.scopes)
    if unknown or not draft.scopes:
        known = ", ".join(scope.value for scope in Scope)
        named = f"{unknown[0]!r} is none of" if unknown else "must be one or more of"
        wrong.append(FieldViolation(field="scopes", message=f"{named} {known}"))
    if draft.expires_at is not None and draft.expires_at <= datetime.now(UTC):
        wrong.append(FieldViolation(field="expires_at", message="must be in the future"))
    for field in ("tasks_per_minute", "concurrent_runs", "tokens_per_day"):
        value = getattr(draft, field)
        if value is not None and value < 1:
            wrong.append(FieldViolation(field=field, message="must be 1 or more"))
    if wrong:
        raise InvalidArgument(f"{wrong[0].field}: {wrong[0].message}.", fields=wrong)


def _unknown(scopes: Sequence[str]) -> list[str]:
    return [scope for scope in scopes if scope not in set(Scope)]
