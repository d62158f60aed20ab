"""Documents: files, their parts and their texts. The tables `documents`, `document_parts` and `document_texts`."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asyncpg import Record
from hearth_runtime.documents import Document, DocumentStatus
from hearth_runtime.errors import DocumentIncomplete, DocumentNotFound
from hearth_runtime.tasks import Task, TaskStatus

from storage_service.attempts import Attempts
from storage_service.collections import collection_not_found
from storage_service.database import Database
from storage_service.pages import PAGE_BYTES, Page, id_of_token, token_of_id
from storage_service.queries import load_queries
from storage_service.tasks import NewTask, Tasks

SQL = load_queries("documents")

# An upload that was not finished within this time is forgotten when the next one begins.
UPLOAD_TIME = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class NewDocument:
    """What a document is made of."""

    id: str
    collection: str
    name: str
    media_type: str
    size_bytes: int
    content_hash: str
    metadata: dict[str, Any]


class Documents:
    """The documents that there are."""

    def __init__(self, database: Database, tasks: Tasks, attempts: Attempts) -> None:
        self._database = database
        self._tasks = tasks
        self._attempts = attempts

    async def begin(self, new: NewDocument) -> Document:
        """The document with this content, inserted where the collection has none. Raises CollectionNotFound."""
        await self._database.fetchrow(SQL["forget_uploads"], UPLOAD_TIME)
        await self._database.fetchrow(
            SQL["begin_document"],
            new.id,
            new.collection,
            new.name,
            new.media_type,
            new.size_bytes,
            new.content_hash,
            new.metadata,
        )
        row = await self._database.fetchrow(SQL["find_document"], new.collection, new.content_hash)
        if row is None:
            raise collection_not_found(new.collection)
        return _document(row)

    async def put_part(self, document_id: str, number: int, data: bytes) -> None:
        """Keeps a part of an uploading document; again is harmless. Raises DocumentNotFound, DocumentIncomplete."""
        if await self._database.fetchrow(SQL["put_part"], document_id, number, data) is None:
            await self.get(document_id)
            raise DocumentIncomplete(f"The document {document_id} was taken in already; its parts stay as they are.")

    async def accept(self, document_id: str, new: NewTask) -> tuple[Document, Task, bool]:
        """Makes the task that reads the document, where it has none; tells whether it was made now.

        Raises DocumentNotFound, QueueFull, and DocumentIncomplete where parts are missing.
        """
        size = await self._database.fetchrow(SQL["measure_parts"], document_id)
        if size is None:
            raise document_not_found(document_id)
        if size["task_id"] is not None:
            task = await self._tasks.get(str(size["task_id"]))
            return await self.get(document_id), task, False
        if size["bytes"] != size["size_bytes"] or size["has_gap"]:
            raise DocumentIncomplete(
                f"{size['bytes']} of the document's {size['size_bytes']} bytes have come. Upload it again."
            )
        # By its key the task is made once, also where this is cut off in between or done twice at a time.
        task, created = await self._tasks.create(new)
        await self._database.fetchrow(SQL["set_task"], document_id, task.id)
        return await self.get(document_id), task, created

    async def get(self, document_id: str) -> Document:
        """Raises DocumentNotFound."""
        row = await self._database.fetchrow(SQL["get_document"], document_id)
        if row is None:
            raise document_not_found(document_id)
        return _document(row)

    async def list(self, *, page_size: int, token: str, collection: str | None) -> Page[Document]:
        """The documents, of one collection or of all, the newest first."""
        rows = await self._database.fetch(
            SQL["list_documents"], page_size + 1, id_of_token(token), collection, PAGE_BYTES
        )
        documents = [_document(row) for row in rows[:page_size]]
        more = bool(rows) and rows[0]["found"] > len(documents)
        return Page(items=documents, next_token=token_of_id(documents[-1].id) if more else "")

    async def delete(self, document_id: str) -> None:
        """Deletes the document and all that was made of it. Raises DocumentNotFound."""
        if await self._database.fetchrow(SQL["delete_document"], document_id) is None:
            raise document_not_found(document_id)

    async def part(self, document_id: str, number: int) -> bytes | None:
        """A part of the file, None after the last one. Raises DocumentNotFound."""
        row = await self._database.fetchrow(SQL["get_part"], document_id, number)
        if row is None:
            await self.get(document_id)
            return None
        return bytes(row["data"])

    async def put_text(self, task_id: str, attempt: int, *, document_id: str, number: int, text: str) -> None:
        """Keeps a part of the text. Raises DocumentNotFound, AttemptOutdated."""
        row = await self._database.fetchrow(SQL["put_text"], task_id, attempt, document_id, number, text)
        await self.written(row, task_id, attempt, document_id)

    async def text(self, document_id: str, number: int) -> str | None:
        """A part of the text, None after the last one. Raises DocumentNotFound."""
        row = await self._database.fetchrow(SQL["get_text"], document_id, number)
        if row is None:
            await self.get(document_id)
            return None
        text: str = row["text"]
        return text

    async def record_text(
        self,
        task_id: str,
        attempt: int,
        *,
        document_id: str,
        page_count: int | None,
        character_count: int,
        chunk_count: int,
    ) -> None:
        """Notes how long the text is and in how many chunks. Raises DocumentNotFound, AttemptOutdated."""
        row = await self._database.fetchrow(
            SQL["record_text"], task_id, attempt, document_id, page_count, character_count, chunk_count
        )
        await self.written(row, task_id, attempt, document_id)

    async def publish(self, task_id: str, attempt: int, *, document_id: str) -> str | None:
        """Lets the document be found; or gives a model of its collection whose vectors it lacks.

        Raises DocumentNotFound, AttemptOutdated.
        """
        async with self._database.transaction() as transaction:
            models = await transaction.fetchrow(SQL["lock_models"], document_id)
            if models is None:
                raise document_not_found(document_id)
            for model in (models["embedding_model"], models["next_embedding_model"]):
                if model is not None:
                    row = await transaction.fetchrow(SQL["lacks_vectors"], document_id, model)
                    if row is None or row["is_missing"]:
                        return str(model)
            row = await transaction.fetchrow(SQL["publish"], task_id, attempt, document_id)
        await self.written(row, task_id, attempt, document_id)
        return None

    async def written(self, row: Record | None, task_id: str, attempt: int, document_id: str) -> None:
        """Raises why nothing was written, where there is no row."""
        if row is None:
            await self.get(document_id)
            raise await self._attempts.outdated(task_id, attempt)


def document_not_found(document_id: str) -> DocumentNotFound:
    """What to raise where there is no document of this id."""
    return DocumentNotFound(
        f"There is no document {document_id}. GET /api/v1/documents lists those that there are.",
        metadata={"document_id": document_id},
    )


_STATUSES = {TaskStatus.FAILED: DocumentStatus.FAILED, TaskStatus.CANCELLED: DocumentStatus.CANCELLED}


def _document(row: Record) -> Document:
    if row["ready_at"] is not None:
        status = DocumentStatus.READY
    elif row["task_id"] is None:
        status = DocumentStatus.UPLOADING
    else:
        status = _STATUSES.get(TaskStatus(row["task_status"]), DocumentStatus.PENDING)
    return Document(
        id=str(row["id"]),
        collection=row["collection"],
        name=row["name"],
        media_type=row["media_type"],
        size_bytes=row["size_bytes"],
        content_hash=row["content_hash"],
        metadata=row["metadata"],
        status=status,
        task_id=None if row["task_id"] is None else str(row["task_id"]),
        error_code=None if status is DocumentStatus.READY else row["error_code"],
        error_message=None if status is DocumentStatus.READY else row["error_message"],
        page_count=row["page_count"],
        character_count=row["character_count"],
        chunk_count=row["chunk_count"],
        created_at=row["created_at"],
        ready_at=row["ready_at"],
    )
