"""Collections: the table `collections`."""

from dataclasses import dataclass
from enum import StrEnum

from asyncpg import Record
from hearth_runtime.documents import Collection
from hearth_runtime.errors import CollectionExists, CollectionNotFound

from storage_service.attempts import Attempts
from storage_service.database import Database
from storage_service.pages import Page, text_of_token, token_of_text
from storage_service.queries import load_queries

SQL = load_queries("collections")

# So many vectors are deleted in one call, well within its time.
DROP_LIMIT = 20_000


@dataclass(frozen=True, kw_only=True)
class NewCollection:
    """What a collection is made of."""

    id: str
    name: str
    description: str
    embedding_model: str
    chunk_tokens: int


class SwitchOutcome(StrEnum):
    """What became of the change to another model."""

    SWITCHED = "switched"
    MISSING = "missing"
    SUPERSEDED = "superseded"


class Collections:
    """The collections that there are."""

    def __init__(self, database: Database, attempts: Attempts, *, drop_limit: int = DROP_LIMIT) -> None:
        self._database = database
        self._attempts = attempts
        self._drop_limit = drop_limit

    async def insert(self, new: NewCollection) -> Collection:
        """Inserts the collection; again is harmless. Raises CollectionExists where another one has its name."""
        row = await self._database.fetchrow(
            SQL["insert_collection"], new.id, new.name, new.description, new.embedding_model, new.chunk_tokens
        )
        if row is not None:
            return _collection(row)
        known = await self.get(new.name)
        if known.id != new.id.lower():
            raise CollectionExists(f"There is a collection {new.name} already. Take another name, or change that one.")
        return known

    async def get(self, name: str) -> Collection:
        """Raises CollectionNotFound."""
        row = await self._database.fetchrow(SQL["get_collection"], name)
        if row is None:
            raise collection_not_found(name)
        return _collection(row)

    async def list(self, *, page_size: int, token: str) -> Page[Collection]:
        """The collections by name."""
        rows = await self._database.fetch(SQL["list_collections"], page_size + 1, text_of_token(token))
        collections = [_collection(row) for row in rows[:page_size]]
        more = len(rows) > page_size
        return Page(items=collections, next_token=token_of_text(collections[-1].name) if more else "")

    async def update(self, name: str, *, description: str, embedding_model: str) -> Collection:
        """Sets the description, and the model to come. Raises CollectionNotFound."""
        if await self._database.fetchrow(SQL["update_collection"], name, description, embedding_model) is None:
            raise collection_not_found(name)
        return await self.get(name)

    async def delete(self, name: str) -> None:
        """Deletes it with all its documents. Raises CollectionNotFound."""
        if await self._database.fetchrow(SQL["delete_collection"], name) is None:
            raise collection_not_found(name)

    async def switch(self, task_id: str, attempt: int, *, collection_id: str, model: str) -> tuple[SwitchOutcome, bool]:
        """Has the collection searched by `model`, its next one, if every chunk has a vector of it; then drops some of
        those of other models. The bool says that more of these are left: the same again drops them.

        Searches see the one or the other. Raises AttemptOutdated.
        """
        async with self._database.transaction() as transaction:
            await self._attempts.check(transaction, task_id, attempt)
            row = await transaction.fetchrow(SQL["lock_next_model"], collection_id, model)
            if row is None or not (row["is_next"] or row["is_switched"]):
                return SwitchOutcome.SUPERSEDED, False
            if row["is_next"]:
                (missing,) = await transaction.fetch(SQL["find_unembedded"], collection_id, model)
                if missing["is_missing"]:
                    return SwitchOutcome.MISSING, False
                await transaction.fetchrow(SQL["switch_model"], collection_id)
        (gone,) = await self._database.fetch(SQL["drop_vectors"], collection_id, self._drop_limit)
        return SwitchOutcome.SWITCHED, gone["dropped"] == self._drop_limit


def collection_not_found(name: str) -> CollectionNotFound:
    """What to raise where there is no collection of this name."""
    return CollectionNotFound(
        f"There is no collection {name}. GET /api/v1/collections lists those that there are.",
        metadata={"collection": name},
    )


def _collection(row: Record) -> Collection:
    return Collection(
        id=str(row["id"]),
        name=row["name"],
        description=row["description"],
        embedding_model=row["embedding_model"],
        next_embedding_model=row["next_embedding_model"],
        chunk_tokens=row["chunk_tokens"],
        document_count=row["document_count"],
        chunk_count=row["chunk_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
