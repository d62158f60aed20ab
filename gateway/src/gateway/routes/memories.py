"""What agents remember beyond a conversation."""

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response
from hearth.agent.v1 import memory_service_pb2
from hearth_runtime.errors import FieldViolation

from gateway import memory_examples as examples
from gateway.dependencies import ServicesDep
from gateway.documentation import (
    AGENT_NOT_FOUND,
    BAD_AGENT_ID,
    BAD_LIMIT,
    BAD_MEMORY,
    BAD_MEMORY_ID,
    BODY_ERRORS,
    MEMORY_KNOWN,
    MEMORY_NOT_FOUND,
    NO_EMBEDDING_MODEL,
    SESSION_NOT_FOUND,
    answers,
)
from gateway.errors import invalid_request
from gateway.memory_translation import memory_of, recalled_of, scope_number, subject_message
from gateway.route import Route
from gateway.routes.parameters import AgentId, Cursor, Limit
from gateway.schemas.fields import Contains, Id, MemoryScope, UserName
from gateway.schemas.memories import (
    MemoriesForgotten,
    Memory,
    MemoryChange,
    MemoryDraft,
    MemoryKept,
    MemoryPage,
    MemorySearch,
    RecalledMemories,
)

router = APIRouter(prefix="/api/v1", tags=["memories"], route_class=Route)

OF_AGENT = "/agents/{agent_id:agent}/memories"
MemoryId = Annotated[Id, Path(description="The memory's id", examples=[examples.MEMORY_ID])]
OfSession = Annotated[Id | None, Query(description="The session, in the scope `session`")]
OfUser = Annotated[UserName | None, Query(description="The user, in the scope `user`")]


@router.get(
    OF_AGENT,
    operation_id="list_memories",
    summary="List what an agent remembers",
    responses=answers(200, examples.MEMORY_PAGE, AGENT_NOT_FOUND, BAD_AGENT_ID, BAD_LIMIT),
)
async def list_memories(
    *,
    services: ServicesDep,
    agent_id: AgentId,
    limit: Limit = 50,
    cursor: Cursor = None,
    scope: Annotated[MemoryScope | None, Query(description="Only facts of this scope")] = None,
    session_id: OfSession = None,
    user: OfUser = None,
    contains: Annotated[Contains | None, Query(description="A text in the fact, in any case")] = None,
    superseded: Annotated[bool, Query(description="Also facts that newer ones took the place of")] = False,
) -> MemoryPage:
    """Pages through the facts that an agent keeps, the newest first."""
    whose = _whose(scope, session_id, user)
    answer = await services.memories.ListMemories(
        memory_service_pb2.ListMemoriesRequest(
            agent_id=agent_id,
            page_size=limit,
            page_token=cursor or "",
            scope=None if whose is None else scope_number(whose),
            subject=session_id or user,
            contains=contains,
            include_superseded=superseded,
        )
    )
    return MemoryPage(items=[memory_of(m) for m in answer.memories], next_cursor=answer.next_page_token or None)


@router.post(
    OF_AGENT,
    operation_id="create_memory",
    summary="Have an agent remember a fact",
    status_code=201,
    responses=answers(
        201,
        examples.MEMORY_KEPT,
        *BODY_ERRORS,
        AGENT_NOT_FOUND,
        SESSION_NOT_FOUND,
        NO_EMBEDDING_MODEL,
        BAD_MEMORY,
        location="The memory's path",
    ),
)
async def create_memory(
    services: ServicesDep,
    response: Response,
    agent_id: AgentId,
    draft: Annotated[MemoryDraft, Body(openapi_examples={"dog": {"value": examples.MEMORY_DRAFT}})],
) -> MemoryKept:
    """Keeps a fact, unless it is known already: by its text, or by one that differs in its wording alone. What was kept
    of the same topic before is superseded: it stays as history and is recalled no more.
    """
    answer = await services.memories.CreateMemory(
        memory_service_pb2.CreateMemoryRequest(
            agent_id=agent_id,
            subject=subject_message(draft.scope, draft.subject),
            content=draft.content,
            topic=draft.topic,
            importance=draft.importance,
        )
    )
    response.headers["Location"] = f"/api/v1/memories/{answer.memory.id}"
    return MemoryKept(
        memory=memory_of(answer.memory), created=answer.created, superseded_ids=list(answer.superseded_ids)
    )


@router.delete(
    OF_AGENT,
    operation_id="forget_memories",
    summary="Have an agent forget all of a scope",
    responses=answers(200, examples.FORGOTTEN, AGENT_NOT_FOUND, BAD_MEMORY),
)
async def forget_memories(
    services: ServicesDep,
    agent_id: AgentId,
    scope: Annotated[MemoryScope, Query(description="Whose facts are forgotten")],
    session_id: OfSession = None,
    user: OfUser = None,
) -> MemoriesForgotten:
    """Forgets every fact that the agent keeps for all, for one session or for one user, with its history."""
    if (scope == "session") != (session_id is not None) or (scope == "user") != (user is not None):
        message = "needs `session_id` for `session`, `user` for `user`, and neither for `agent`"
        raise invalid_request([FieldViolation(field="scope", message=message)])
    answer = await services.memories.ForgetMemories(
        memory_service_pb2.ForgetMemoriesRequest(
            agent_id=agent_id, subject=subject_message(scope, session_id or user or "")
        )
    )
    return MemoriesForgotten(forgotten_count=answer.forgotten_count)


@router.post(
    "/memories/search",
    operation_id="search_memories",
    summary="Search what an agent remembers",
    responses=answers(200, examples.RECALLED, *BODY_ERRORS, AGENT_NOT_FOUND, NO_EMBEDDING_MODEL, BAD_MEMORY),
)
async def search_memories(
    services: ServicesDep,
    search: Annotated[MemorySearch, Body(openapi_examples={"dog": {"value": examples.MEMORY_SEARCH}})],
) -> RecalledMemories:
    """The facts that answer a query best, as a run would be told of them: those of the agent, and of the session and
    user if they are named. They do not count as recalled.
    """
    subjects = [subject_message("agent", "")]
    subjects += [subject_message("session", search.session_id)] if search.session_id else []
    subjects += [subject_message("user", search.user)] if search.user else []
    answer = await services.memories.SearchMemories(
        memory_service_pb2.SearchMemoriesRequest(
            agent_id=search.agent_id, subjects=subjects, query=search.query, limit=search.limit
        )
    )
    return RecalledMemories(items=[recalled_of(m) for m in answer.memories])


@router.get(
    "/memories/{memory_id}",
    operation_id="get_memory",
    summary="Read a memory",
    responses=answers(200, examples.MEMORY, MEMORY_NOT_FOUND, BAD_MEMORY_ID),
)
async def get_memory(services: ServicesDep, memory_id: MemoryId) -> Memory:
    """Reads one fact, also one that is superseded."""
    answer = await services.memories.GetMemory(memory_service_pb2.GetMemoryRequest(id=memory_id))
    return memory_of(answer.memory)


@router.patch(
    "/memories/{memory_id}",
    operation_id="update_memory",
    summary="Change a memory",
    responses=answers(
        200,
        examples.MEMORY,
        *BODY_ERRORS,
        MEMORY_NOT_FOUND,
        NO_EMBEDDING_MODEL,
        MEMORY_KNOWN,
        BAD_MEMORY,
    ),
)
async def update_memory(
    services: ServicesDep,
    memory_id: MemoryId,
    change: Annotated[MemoryChange, Body(openapi_examples={"importance": {"value": examples.MEMORY_CHANGE}})],
) -> Memory:
    """Changes what a fact says, what it is about or how much it matters."""
    asked = change.model_dump(exclude_unset=True)
    if "topic" in asked:
        asked["topic"] = asked["topic"] or ""
    answer = await services.memories.UpdateMemory(memory_service_pb2.UpdateMemoryRequest(id=memory_id, **asked))
    return memory_of(answer.memory)


@router.delete(
    "/memories/{memory_id}",
    operation_id="delete_memory",
    summary="Forget a memory",
    status_code=204,
    responses=answers(204, None, MEMORY_NOT_FOUND, BAD_MEMORY_ID),
)
async def delete_memory(services: ServicesDep, memory_id: MemoryId) -> None:
    """Forgets one fact. What it took the place of stays history."""
    await services.memories.DeleteMemory(memory_service_pb2.DeleteMemoryRequest(id=memory_id))


def _whose(scope: MemoryScope | None, session_id: str | None, user: str | None) -> MemoryScope | None:
    """The scope that the parameters name. Raises InvalidArgument where they name more than one."""
    named: set[MemoryScope] = {scope} if scope is not None else set()
    named |= {"session"} if session_id is not None else set()
    named |= {"user"} if user is not None else set()
    if len(named) > 1:
        message = "must be the scope of the session or user that is named"
        raise invalid_request([FieldViolation(field="scope", message=message)])
    return named.pop() if named else None
