"""Files on their way to agent-service: part by part, each within a call of its own."""

import asyncio
import hashlib
from pathlib import PurePosixPath
from typing import IO, Any

import orjson
from fastapi import UploadFile
from hearth.agent.v1 import document_service_pb2
from hearth_runtime.documents import PART_BYTES
from hearth_runtime.errors import FieldViolation

from gateway.dependencies import Services
from gateway.errors import invalid_request

NAME_CHARACTERS = 255
METADATA_BYTES = 64 * 1024
ANY_MEDIA_TYPE = "application/octet-stream"


async def upload(
    services: Services, file: UploadFile, *, collection: str, metadata: dict[str, Any]
) -> document_service_pb2.AcceptDocumentResponse:
    """Has the file taken in. What the collection has already is not sent again."""
    size = file.size or 0
    if not size:
        raise invalid_request([FieldViolation(field="file", message="is empty: there is nothing to read")])
    answer = await services.documents.BeginDocument(
        document_service_pb2.BeginDocumentRequest(
            collection=collection,
            name=_name(file.filename or ""),
            media_type=_media_type(file.content_type or ""),
            size_bytes=size,
            content_hash=await asyncio.to_thread(_sha256, file.file),
            metadata=orjson.dumps(metadata).decode(),
        )
    )
    document = answer.document
    if not document.HasField("task_id"):
        await file.seek(0)
        number = 0
        while part := await file.read(PART_BYTES):
            await services.documents.PutDocumentPart(
                document_service_pb2.PutDocumentPartRequest(document_id=document.id, number=number, data=part)
            )
            number += 1
    return await services.documents.AcceptDocument(document_service_pb2.AcceptDocumentRequest(id=document.id))


def metadata_of(text: str) -> dict[str, Any]:
    """The form's metadata. Raises InvalidRequest where it is no JSON object, or too large."""
    try:
        value = orjson.loads(text) if len(text) <= METADATA_BYTES else None
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        message = f"is not a JSON object of at most {METADATA_BYTES} bytes"
        raise invalid_request([FieldViolation(field="metadata", message=message)])
    return value


def _sha256(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _name(text: str) -> str:
    """The file's name without folders, as storage can hold it."""
    name = PurePosixPath(text.replace("\\", "/")).name.replace("\0", "")
    return name.encode("utf-8", "replace").decode()[-NAME_CHARACTERS:] or "document"


def _media_type(text: str) -> str:
    return text if text.isascii() and text.isprintable() and 0 < len(text) <= NAME_CHARACTERS else ANY_MEDIA_TYPE
