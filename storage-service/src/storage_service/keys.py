"""Keys, tickets and actions: the tables `api_keys`, `tickets` and `actions`, which are Hearth's own."""

from collections.abc import Sequence
from datetime import timedelta

from asyncpg import Record
from hearth_runtime.errors import KeyExists, KeyNotFound, TicketRefused
from hearth_runtime.keys import Action, Key
from hearth_runtime.principals import acting_for

from storage_service.database import Database
from storage_service.pages import Page, id_of_token, text_of_token, token_of_id, token_of_text
from storage_service.queries import load_queries

SQL = load_queries("keys")


class Keys:
    """The keys that there are, and were."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, key: Key, digest: bytes) -> Key:
        """Inserts the key; again is harmless. Raises KeyExists where another one has its prefix."""
        with acting_for(None):
            row = await self._database.fetchrow(
                SQL["insert_key"],
                key.id,
                key.prefix,
                digest,
                key.name,
                key.owner,
                list(key.scopes),
                key.tasks_per_minute,
                key.concurrent_runs,
                key.tokens_per_day,
                key.expires_at,
            )
        if row is not None:
            return _key(row)
        known, _, _ = await self.get(key.prefix)
        if known.id != key.id:
            raise KeyExists(f"There is a key {key.prefix} already. Try again: prefixes are made by chance.")
        return known

    async def get(self, prefix: str) -> tuple[Key, bytes, bool]:
        """The key, its digest, and whether it is neither revoked nor expired. Raises KeyNotFound."""
        with acting_for(None):
            row = await self._database.fetchrow(SQL["get_key"], prefix)
        if row is None:
            raise key_not_found(prefix)
        return _key(row), bytes(row["digest"]), row["is_valid"]

    async def list(self, *, page_size: int, token: str) -> Page[Key]:
        """The keys, the newest first."""
        with acting_for(None):
            rows = await self._database.fetch(SQL["list_keys"], page_size + 1, id_of_token(token))
        keys = [_key(row) for row in rows[:page_size]]
        return Page(items=keys, next_token=token_of_id(keys[-1].id) if len(rows) > page_size else "")

    async def revoke(self, prefix: str) -> Key:
        """Lets it in no more. Raises KeyNotFound."""
        with acting_for(None):
            row = await self._database.fetchrow(SQL["revoke_key"], prefix)
        if row is None:
            raise key_not_found(prefix)
        return _key(row)

    async def has_any(self) -> bool:
        """Whether a key was ever made."""
        with acting_for(None):
            (row,) = await self._database.fetch(SQL["has_keys"])
        return bool(row["has_keys"])


class Tickets:
    """What lets in once, and soon."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, digest: bytes, grant: str, lifetime: timedelta) -> None:
        """Keeps a ticket for this long."""
        with acting_for(None):
            await self._database.fetchrow(SQL["insert_ticket"], digest, grant, lifetime)

    async def take(self, digest: bytes) -> str:
        """What the ticket was made for, which it is no more. Raises TicketRefused."""
        with acting_for(None):
            row = await self._database.fetchrow(SQL["take_ticket"], digest)
        if row is None or not row["is_valid"]:
            raise TicketRefused("The ticket is not known, was used, or its time is over. Make another one.")
        return str(row["granted"])


class Actions:
    """What was done with keys."""

    def __init__(self, database: Database, *, keep: timedelta) -> None:
        self._database = database
        self._keep = keep

    async def append(self, actions: Sequence[Action]) -> None:
        """Keeps them."""
        rows = [(a.at, a.actor, a.owner, a.action, a.target, a.status, a.code, a.address) for a in actions]
        with acting_for(None):
            await self._database.fetchrow(SQL["append_actions"], *map(list, zip(*rows, strict=True)), self._keep)

    async def list(self, *, page_size: int, token: str, actor: str | None) -> Page[Action]:
        """The actions, of one actor or of all, the last first."""
        before = text_of_token(token)
        with acting_for(None):
            rows = await self._database.fetch(
                SQL["list_actions"], page_size + 1, None if before is None else int(before), actor
            )
        actions = [_action(row) for row in rows[:page_size]]
        more = len(rows) > page_size
        return Page(items=actions, next_token=token_of_text(str(rows[page_size - 1]["id"])) if more else "")


def key_not_found(prefix: str) -> KeyNotFound:
    """What to raise where there is no key of this prefix."""
    return KeyNotFound(f"There is no key {prefix}. `hearth-admin keys list` shows those that there are.")


def _key(row: Record) -> Key:
    return Key(
        id=str(row["id"]),
        prefix=row["prefix"],
        name=row["name"],
        owner=row["owner"],
        scopes=tuple(row["scopes"]),
        tasks_per_minute=row["tasks_per_minute"],
        concurrent_runs=row["concurrent_runs"],
        tokens_per_day=row["tokens_per_day"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )


def _action(row: Record) -> Action:
    return Action(
        at=row["at"],
        actor=row["actor"],
        owner=row["owner"],
        action=row["action"],
        target=row["target"],
        status=row["status"],
        code=row["code"],
        address=row["address"],
    )
