"""The tables of keys in memory, by the errors of hearth.storage.v1.KeyStoreService."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from hearth_runtime.errors import KeyNotFound, TicketRefused
from hearth_runtime.keys import Action, Key


class KeyRows:
    """Keys, tickets and actions."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[Key, bytes]] = {}
        self.tickets: dict[bytes, str] = {}
        self.actions: list[Action] = []
        # How often a key was looked up.
        self.lookups = 0

    async def insert(self, key: Key, digest: bytes) -> Key:
        key = replace(key, created_at=datetime.now(UTC))
        self.keys[key.prefix] = key, digest
        return key

    async def get(self, prefix: str) -> tuple[Key, bytes, bool]:
        self.lookups += 1
        if prefix not in self.keys:
            raise KeyNotFound
        key, digest = self.keys[prefix]
        now = datetime.now(UTC)
        return key, digest, key.revoked_at is None and (key.expires_at is None or key.expires_at > now)

    async def page(self, *, size: int, token: str) -> tuple[tuple[Key, ...], str]:
        return tuple(key for key, _ in self.keys.values())[:size], ""

    async def revoke(self, prefix: str) -> Key:
        key, digest, _ = await self.get(prefix)
        key = replace(key, revoked_at=datetime.now(UTC))
        self.keys[prefix] = key, digest
        return key

    async def has_any(self) -> bool:
        return bool(self.keys)

    async def insert_ticket(self, digest: bytes, grant: str, *, lifetime_seconds: float) -> None:
        self.tickets[digest] = grant

    async def take_ticket(self, digest: bytes) -> str:
        if digest not in self.tickets:
            raise TicketRefused
        return self.tickets.pop(digest)

    async def append_actions(self, actions: Sequence[Action]) -> None:
        self.actions.extend(actions)

    async def actions_page(self, *, size: int, token: str, actor: str | None) -> tuple[tuple[Action, ...], str]:
        found = [action for action in reversed(self.actions) if actor in (None, action.actor)]
        return tuple(found[:size]), ""
