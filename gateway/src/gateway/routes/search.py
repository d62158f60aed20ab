"""Search: chunks of documents that answer a query."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Body
from hearth.agent.v1 import document_service_pb2
from hearth_runtime.errors import FieldViolation

from gateway import document_examples
from gateway.dependencies import ServicesDep
from gateway.document_translation import MODES, chunk_of
from gateway.documentation import (
    BAD_QUERY,
    BODY_ERRORS,
    COLLECTION_NOT_FOUND,
    MODEL_LACKS_CAPABILITY,
    MODEL_NOT_FOUND,
    MODEL_OVERLOADED,
    answers,
)
from gateway.errors import invalid_request
from gateway.route import Route
from gateway.schemas.documents import MAX_FILTER_CHARACTERS, SearchRequest, SearchResult

router = APIRouter(prefix="/api/v1/search", tags=["documents"], route_class=Route)


@router.post(
    "",
    operation_id="search",
    summary="Search documents",
    responses=answers(
        200,
        document_examples.SEARCH_RESULT,
        *BODY_ERRORS,
        COLLECTION_NOT_FOUND,
        MODEL_NOT_FOUND,
        MODEL_LACKS_CAPABILITY,
        MODEL_OVERLOADED,
        BAD_QUERY,
    ),
)
async def search(
    services: ServicesDep,
    query: Annotated[SearchRequest, Body(openapi_examples={"a question": {"value": document_examples.SEARCH}})],
) -> SearchResult:
    """Finds the chunks that answer the query best: by its words, by its meaning, or by both. A filter on the documents'
    metadata leaves as many results as there are, however few documents it lets pass.
    """
    try:
        where = orjson.dumps(query.filter)
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise invalid_request([FieldViolation(field="filter", message="holds what cannot be stored")]) from error
    if len(where) > MAX_FILTER_CHARACTERS:
        message = f"has more than {MAX_FILTER_CHARACTERS} bytes"
        raise invalid_request([FieldViolation(field="filter", message=message)])
    answer = await services.documents.Search(
        document_service_pb2.SearchRequest(
            query=query.query,
            collections=query.collections,
            limit=query.limit,
            filter=where.decode(),
            mode=MODES[query.mode],
        )
    )
    return SearchResult(items=[chunk_of(chunk) for chunk in answer.chunks])
