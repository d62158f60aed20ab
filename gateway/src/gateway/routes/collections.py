"""Collections: documents that are searched together."""

from typing import Annotated

from fastapi import APIRouter, Body, Response
from hearth.agent.v1 import document_service_pb2

from gateway import document_examples
from gateway.dependencies import LinksDep, ServicesDep
from gateway.document_translation import collection_of
from gateway.documentation import (
    BAD_CHUNK_TOKENS,
    BAD_COLLECTION,
    BAD_LIMIT,
    BODY_ERRORS,
    COLLECTION_EXISTS,
    COLLECTION_NOT_FOUND,
    QUEUE_FULL,
    answers,
)
from gateway.route import Route
from gateway.routes.parameters import CollectionPath, Cursor, Limit
from gateway.schemas.documents import (
    Collection,
    CollectionChanged,
    CollectionDraft,
    CollectionPage,
    CollectionReplacement,
)
from gateway.translation import accepted_of

router = APIRouter(prefix="/api/v1/collections", tags=["documents"], route_class=Route)


@router.post(
    "",
    operation_id="create_collection",
    summary="Create a collection",
    status_code=201,
    responses=answers(
        201,
        document_examples.COLLECTION,
        *BODY_ERRORS,
        COLLECTION_EXISTS,
        BAD_CHUNK_TOKENS,
        location="The collection's path",
    ),
)
async def create_collection(
    services: ServicesDep,
    response: Response,
    draft: Annotated[
        CollectionDraft, Body(openapi_examples={"handbooks": {"value": document_examples.COLLECTION_DRAFT}})
    ],
) -> Collection:
    """Makes a collection. The one named `default` is made by the first upload that names none."""
    answer = await services.documents.CreateCollection(
        document_service_pb2.CreateCollectionRequest(
            name=draft.name,
            description=draft.description,
            embedding_model=draft.embedding_model,
            chunk_tokens=draft.chunk_tokens,
        )
    )
    response.headers["Location"] = f"/api/v1/collections/{answer.collection.name}"
    return collection_of(answer.collection)


@router.get(
    "",
    operation_id="list_collections",
    summary="List collections",
    responses=answers(200, document_examples.COLLECTION_PAGE, BAD_LIMIT),
)
async def list_collections(services: ServicesDep, limit: Limit = 50, cursor: Cursor = None) -> CollectionPage:
    """Pages through the collections, by name."""
    answer = await services.documents.ListCollections(
        document_service_pb2.ListCollectionsRequest(page_size=limit, page_token=cursor or "")
    )
    return CollectionPage(
        items=[collection_of(c) for c in answer.collections], next_cursor=answer.next_page_token or None
    )


@router.get(
    "/{name}",
    operation_id="get_collection",
    summary="Read a collection",
    responses=answers(200, document_examples.COLLECTION, COLLECTION_NOT_FOUND, BAD_COLLECTION),
)
async def get_collection(services: ServicesDep, name: CollectionPath) -> Collection:
    """Reads one collection."""
    answer = await services.documents.GetCollection(document_service_pb2.GetCollectionRequest(name=name))
    return collection_of(answer.collection)


@router.put(
    "/{name}",
    operation_id="replace_collection",
    summary="Change a collection",
    responses=answers(
        200, document_examples.COLLECTION_CHANGED, *BODY_ERRORS, COLLECTION_NOT_FOUND, BAD_COLLECTION, QUEUE_FULL
    ),
)
async def replace_collection(
    services: ServicesDep,
    links: LinksDep,
    name: CollectionPath,
    collection: Annotated[
        CollectionReplacement,
        Body(openapi_examples={"another model": {"value": document_examples.COLLECTION_REPLACEMENT}}),
    ],
) -> CollectionChanged:
    """Changes the description, and the embedding model. For another model a task embeds all that the collection has;
    searches are answered from the old vectors until the new ones are all there, and from those at once then.
    """
    answer = await services.documents.UpdateCollection(
        document_service_pb2.UpdateCollectionRequest(
            name=name, description=collection.description, embedding_model=collection.embedding_model
        )
    )
    task = accepted_of(answer.task, links) if answer.HasField("task") else None
    return CollectionChanged(collection=collection_of(answer.collection), task=task)


@router.delete(
    "/{name}",
    operation_id="delete_collection",
    summary="Delete a collection",
    status_code=204,
    responses=answers(204, None, COLLECTION_NOT_FOUND, BAD_COLLECTION),
)
async def delete_collection(services: ServicesDep, name: CollectionPath) -> None:
    """Deletes the collection with all its documents."""
    await services.documents.DeleteCollection(document_service_pb2.DeleteCollectionRequest(name=name))
