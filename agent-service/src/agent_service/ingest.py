"""The workflow `ingest`: reads a document into its collection, or embeds a collection with another model.

What is done is in the rows themselves: an attempt after the first embeds only the chunks that lack a vector.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal, TypedDict

from hearth_runtime.documents import Document
from hearth_runtime.errors import InvalidArgument
from hearth_runtime.events import EventKind, EventLevel
from langgraph.graph import END, START, StateGraph

from agent_service.document_store import StoredChunks, StoredDocuments, SwitchOutcome, Unembedded
from agent_service.embedding import passage_text
from agent_service.extraction import Extracted, FileName, extract
from agent_service.inference import Models
from agent_service.workflow import GraphWorkflow, RunContext, step

# So many chunks are embedded, and their vectors kept, at a time: few, so that whoever searches meanwhile waits little
# for the model. So many such batches are one step.
BATCH_CHUNKS = 16
STEP_BATCHES = 32
EMBED_SECONDS = 300.0


class IngestState(TypedDict, total=False):
    """How far it is: the model whose vectors are made, and what the run ends with."""

    model: str
    is_embedded: bool
    output: dict[str, Any]


class IngestWorkflow(GraphWorkflow):
    """Of a document `read`, `embed` until each chunk has a vector, `publish`; of a collection the last two."""

    def __init__(self) -> None:
        graph = StateGraph(IngestState, context_schema=RunContext)
        graph.add_node("read", step("read", _read))
        graph.add_node("embed", step("embed", _embed))
        graph.add_node("publish", step("publish", _publish))
        graph.add_edge(START, "read")
        graph.add_edge("read", "embed")
        graph.add_conditional_edges("embed", _after_embed, ["embed", "publish"])
        graph.add_conditional_edges("publish", _after_publish, ["embed", END])
        super().__init__(graph)


def _after_embed(state: IngestState) -> Literal["embed", "publish"]:
    return "publish" if state["is_embedded"] else "embed"


def _after_publish(state: IngestState) -> str:
    return END if "output" in state else "embed"


async def _read(_: IngestState, context: RunContext) -> dict[str, Any]:
    """Keeps the text and the chunks of the document; there is nothing to read of a collection."""
    stored = StoredDocuments(context.host.storage)
    match context.task.input:
        case {"embedding_model": str(model)}:
            return {"model": model}
        case {"document_id": str(document_id)}:
            document = await stored.get(document_id)
        case _:
            raise InvalidArgument("There is nothing to read in the task's input. Upload a document.")
    collection = await stored.collection(document.collection)
    extracted = await _keep(document, context, chunk_tokens=collection.chunk_tokens)
    await context.events.log(
        EventLevel.INFO,
        f"{document.name} has {extracted.character_count} characters in {extracted.chunk_count} chunks.",
        pages=extracted.page_count,
        characters=extracted.character_count,
        chunks=extracted.chunk_count,
    )
    return {"model": collection.embedding_model}


async def _keep(document: Document, context: RunContext, *, chunk_tokens: int) -> Extracted:
    task, chunks = context.task, StoredChunks(context.host.storage)
    parts = 0
    pieces = extract(
        FileName(name=document.name, media_type=document.media_type),
        _parts(StoredDocuments(context.host.storage), document.id),
        chunk_tokens=chunk_tokens,
        settings=context.host.settings,
    )
    async with aclosing(pieces) as reading:
        async for piece in reading:
            match piece:
                case str():
                    await chunks.put_text(task, document_id=document.id, number=parts, text=piece)
                    parts += 1
                case list():
                    await chunks.put_chunks(task, document_id=document.id, chunks=piece)
                case Extracted():
                    extracted = piece
    await chunks.record_text(
        task,
        document_id=document.id,
        page_count=extracted.page_count,
        character_count=extracted.character_count,
        chunk_count=extracted.chunk_count,
    )
    return extracted


async def _parts(stored: StoredDocuments, document_id: str) -> AsyncIterator[bytes]:
    number = 0
    while (part := await stored.part(document_id, number)) is not None:
        yield part
        number += 1


async def _embed(state: IngestState, context: RunContext) -> dict[str, Any]:
    """Embeds some of the chunks that lack a vector."""
    chunks, models = StoredChunks(context.host.storage), Models(context.host.inference)
    model = state["model"]
    after_id: int | None = None
    done = total = 0
    for _ in range(STEP_BATCHES):
        batch = await _unembedded(chunks, context, model, after_id)
        if not batch.chunks:
            return {"is_embedded": True}
        if after_id is None:
            done, total = batch.total_count - batch.missing_count, batch.total_count
        texts = [
            passage_text(model, chunk.text, document_name=chunk.document_name, headings=chunk.headings)
            for chunk in batch.chunks
        ]
        vectors = await models.embed(texts, model=model, fair_key=context.agent.id, timeout_seconds=EMBED_SECONDS)
        ids = [chunk.id for chunk in batch.chunks]
        await chunks.put_vectors(context.task, model=model, vectors=zip(ids, vectors, strict=True))
        after_id = ids[-1]
        done += len(ids)
        await context.events.publish(
            EventKind.STEP,
            message=f"embed {done} of {total}",
            context={"step": "embed", "phase": "progress", "done": done, "total": total, "model": model},
        )
    return {"is_embedded": False}


async def _unembedded(chunks: StoredChunks, context: RunContext, model: str, after_id: int | None) -> Unembedded:
    match context.task.input:
        case {"document_id": str(document_id)}:
            return await chunks.unembedded_of_document(document_id, model=model, limit=BATCH_CHUNKS, after_id=after_id)
        case {"collection_id": str(collection_id)}:
            return await chunks.unembedded_of_collection(
                collection_id, model=model, limit=BATCH_CHUNKS, after_id=after_id
            )
    raise InvalidArgument("The task's input names neither a document nor a collection.")


async def _publish(state: IngestState, context: RunContext) -> dict[str, Any]:
    """Lets the document be found, or the collection be searched by its new model; or has more embedded first."""
    chunks, model = StoredChunks(context.host.storage), state["model"]
    if "document_id" not in context.task.input:
        return await _switch(chunks, context, model)
    document_id = context.task.input["document_id"]
    missing_model = await chunks.publish(context.task, document_id=document_id)
    if missing_model is not None:
        # The collection changes to another model, or has changed, since this began.
        return {"model": missing_model, "is_embedded": False}
    document = await StoredDocuments(context.host.storage).get(document_id)
    return _output(
        f"{document.name} is in the collection {document.collection}, in {document.chunk_count} chunks.",
        model,
        {
            "document_id": document.id,
            "collection": document.collection,
            "pages": document.page_count,
            "characters": document.character_count,
            "chunks": document.chunk_count,
        },
    )


async def _switch(chunks: StoredChunks, context: RunContext, model: str) -> dict[str, Any]:
    collection_id = context.task.input["collection_id"]
    outcome = await chunks.switch_model(context.task, collection_id=collection_id, model=model)
    data = {"collection_id": collection_id, "outcome": outcome.value}
    match outcome:
        case SwitchOutcome.MISSING:
            return {"is_embedded": False}
        case SwitchOutcome.SWITCHED:
            return _output(f"The collection is searched by {model} now.", model, data)
        case SwitchOutcome.SUPERSEDED:
            return _output(f"The collection is gone, or no longer to be searched by {model}.", model, data)


def _output(text: str, model: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"output": {"text": text, "data": data, "usage": {}, "model": model}}
