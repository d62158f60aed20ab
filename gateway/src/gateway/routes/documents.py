"""Documents: files that agents can look things up in."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from hearth.agent.v1 import document_service_pb2
from hearth_runtime.errors import FieldViolation

from gateway import document_examples
from gateway.dependencies import LinksDep, Services, ServicesDep
from gateway.document_translation import document_of
from gateway.documentation import (
    BAD_DOCUMENT_ID,
    BAD_LIMIT,
    COLLECTION_NOT_FOUND,
    DOCUMENT_INCOMPLETE,
    DOCUMENT_NOT_FOUND,
    EMPTY_FILE,
    QUEUE_FULL,
    QUOTA_EXCEEDED,
    UPLOAD_ERRORS,
    answers,
)
from gateway.errors import invalid_request
from gateway.route import Route, UploadRoute
from gateway.routes.parameters import Cursor, DocumentId, Limit
from gateway.schemas.documents import CollectionName, Document, DocumentAccepted, DocumentPage
from gateway.translation import accepted_of
from gateway.uploads import metadata_of, upload
from gateway.validation import unknown_name

FORM_FIELDS = ("file", "collection", "metadata")

router = APIRouter(prefix="/api/v1/documents", tags=["documents"], route_class=Route)
uploads = APIRouter(prefix="/api/v1/documents", tags=["documents"], route_class=UploadRoute)

CONTENT_ANSWERS = answers(200, None, DOCUMENT_NOT_FOUND, BAD_DOCUMENT_ID)
CONTENT_ANSWERS[200] = {
    "description": "The file, or its text",
    "content": {
        "application/octet-stream": {"schema": {"type": "string"}, "example": "# Handbook …"},
        "text/plain": {"schema": {"type": "string"}, "example": "# Handbook …"},
    },
}


@uploads.post(
    "",
    operation_id="upload_document",
    summary="Upload a document",
    status_code=202,
    responses=answers(
        202,
        document_examples.DOCUMENT_ACCEPTED,
        *UPLOAD_ERRORS,
        COLLECTION_NOT_FOUND,
        DOCUMENT_INCOMPLETE,
        EMPTY_FILE,
        QUEUE_FULL,
        QUOTA_EXCEEDED,
        location="The document's path",
    ),
    openapi_extra={
        "requestBody": {
            "content": {"multipart/form-data": {"examples": {"handbook": {"value": document_examples.UPLOAD}}}}
        }
    },
)
async def upload_document(
    *,
    request: Request,
    response: Response,
    services: ServicesDep,
    links: LinksDep,
    file: Annotated[UploadFile, File(description="The file, with its name: its kind is told by what it holds")],
    collection: Annotated[CollectionName, Form(description="Where it goes")] = "default",
    metadata: Annotated[
        str, Form(max_length=65_536, description="A JSON object to filter searches by", examples=['{"year": 2026}'])
    ] = "{}",
) -> DocumentAccepted:
    """Takes a file in: text, Markdown, HTML, PDF, DOCX, CSV or source code. A task reads it, which is followed like any
    other; the document is found once that has completed. A collection has each content once: the same file again is
    the same document, whose task is started again if it had failed.
    """
    unknown = [name for name in await request.form() if name not in FORM_FIELDS]
    if unknown:
        raise invalid_request(
            [FieldViolation(field=n, message=unknown_name(n, FORM_FIELDS, what="field")) for n in unknown[:20]]
        )
    answer = await upload(services, file, collection=collection, metadata=metadata_of(metadata))
    response.headers["Location"] = f"/api/v1/documents/{answer.document.id}"
    accepted = accepted_of(answer.task, links)
    return DocumentAccepted(
        task_id=accepted.task_id,
        status=accepted.status,
        links=accepted.links,
        document=document_of(answer.document),
    )


@router.get(
    "",
    operation_id="list_documents",
    summary="List documents",
    responses=answers(200, document_examples.DOCUMENT_PAGE, BAD_LIMIT),
)
async def list_documents(
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    collection: Annotated[CollectionName | None, Query(description="Only those of this collection")] = None,
) -> DocumentPage:
    """Pages through the documents, the newest first."""
    answer = await services.documents.ListDocuments(
        document_service_pb2.ListDocumentsRequest(page_size=limit, page_token=cursor or "", collection=collection)
    )
    return DocumentPage(items=[document_of(d) for d in answer.documents], next_cursor=answer.next_page_token or None)


@router.get(
    "/{document_id}",
    operation_id="get_document",
    summary="Read a document's state",
    responses=answers(200, document_examples.DOCUMENT, DOCUMENT_NOT_FOUND, BAD_DOCUMENT_ID),
)
async def get_document(services: ServicesDep, document_id: DocumentId) -> Document:
    """Reads what is known of one document, and how far it is."""
    answer = await services.documents.GetDocument(document_service_pb2.GetDocumentRequest(id=document_id))
    return document_of(answer.document)


@router.get(
    "/{document_id}/content",
    operation_id="get_document_content",
    summary="Read a document",
    response_class=StreamingResponse,
    responses=CONTENT_ANSWERS,
)
async def get_document_content(
    services: ServicesDep,
    document_id: DocumentId,
    form: Annotated[
        Literal["original", "text"],
        Query(alias="as", description="The file as it was uploaded, or the text that spans of chunks count in"),
    ] = "original",
) -> Response:
    """The file, or the text that was taken out of it."""
    answer = await services.documents.GetDocument(document_service_pb2.GetDocumentRequest(id=document_id))
    document = answer.document
    if form == "text":
        return StreamingResponse(_text(services, document_id), media_type="text/plain")
    # An attachment of a type that nobody guesses: what strangers uploaded is never shown as a page of ours.
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(document.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_file(services, document_id), media_type="application/octet-stream", headers=headers)


@router.delete(
    "/{document_id}",
    operation_id="delete_document",
    summary="Delete a document",
    status_code=204,
    responses=answers(204, None, DOCUMENT_NOT_FOUND, BAD_DOCUMENT_ID),
)
async def delete_document(services: ServicesDep, document_id: DocumentId) -> None:
    """Deletes the document with all that was made of it, and cancels the task that reads it."""
    await services.documents.DeleteDocument(document_service_pb2.DeleteDocumentRequest(id=document_id))


async def _file(services: Services, document_id: str) -> AsyncIterator[bytes]:
    number = 0
    while True:
        request = document_service_pb2.GetDocumentPartRequest(document_id=document_id, number=number)
        answer = await services.documents.GetDocumentPart(request)
        if not answer.HasField("data"):
            return
        yield answer.data
        number += 1


async def _text(services: Services, document_id: str) -> AsyncIterator[bytes]:
    number = 0
    while True:
        request = document_service_pb2.GetDocumentTextRequest(document_id=document_id, number=number)
        answer = await services.documents.GetDocumentText(request)
        if not answer.HasField("text"):
            return
        yield answer.text.encode()
        number += 1
