"""Sessions: conversations that runs go on with."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Query, Response
from fastapi.responses import PlainTextResponse
from hearth.agent.v1 import session_pb2, session_service_pb2

from gateway import examples
from gateway.dependencies import ServicesDep
from gateway.documentation import (
    BAD_LIMIT,
    BAD_SESSION_ID,
    BAD_TITLE,
    BAD_UNTIL_TURN,
    BODY_ERRORS,
    SESSION_IN_USE,
    SESSION_NOT_FOUND,
    answers,
)
from gateway.route import Route
from gateway.routes.parameters import Cursor, Limit, SessionId
from gateway.schemas.fields import Id
from gateway.schemas.sessions import (
    ForkRequest,
    Session,
    SessionChange,
    SessionExport,
    SessionPage,
    SessionWithTurns,
)
from gateway.session_translation import as_markdown, session_fields, session_of, turn_of

TURNS_PAGE = 500
MARKDOWN = "text/markdown"

EXPORT_ANSWERS = answers(200, examples.SESSION_EXPORT, SESSION_NOT_FOUND, BAD_SESSION_ID)
EXPORT_ANSWERS[200]["content"][MARKDOWN] = {"schema": {"type": "string"}, "example": examples.SESSION_MARKDOWN}

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"], route_class=Route)


@router.get(
    "",
    operation_id="list_sessions",
    summary="List sessions",
    responses=answers(200, examples.SESSION_PAGE, BAD_LIMIT),
)
async def list_sessions(
    services: ServicesDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    agent_id: Annotated[Id | None, Query(description="Only conversations of this agent")] = None,
) -> SessionPage:
    """Pages through the sessions, the newest first."""
    answer = await services.sessions.ListSessions(
        session_service_pb2.ListSessionsRequest(page_size=limit, page_token=cursor or "", agent_id=agent_id)
    )
    return SessionPage(items=[session_of(s) for s in answer.sessions], next_cursor=answer.next_page_token or None)


@router.get(
    "/{session_id}",
    operation_id="get_session",
    summary="Read a session",
    responses=answers(200, examples.SESSION_WITH_TURNS, SESSION_NOT_FOUND, BAD_SESSION_ID, BAD_LIMIT),
)
async def get_session(
    services: ServicesDep, session_id: SessionId, limit: Limit = 50, cursor: Cursor = None
) -> SessionWithTurns:
    """Reads one session with its turns, the oldest first, in pages where there are many."""
    session = await _session(services, session_id)
    answer = await services.sessions.ListSessionTurns(
        session_service_pb2.ListSessionTurnsRequest(id=session_id, page_size=limit, page_token=cursor or "")
    )
    return SessionWithTurns(
        **session_fields(session),
        turns=[turn_of(t) for t in answer.turns],
        next_cursor=answer.next_page_token or None,
    )


@router.get(
    "/{session_id}/export",
    operation_id="export_session",
    summary="Export a session",
    response_model=SessionExport,
    responses=EXPORT_ANSWERS,
)
async def export_session(
    services: ServicesDep,
    session_id: SessionId,
    format: Annotated[
        Literal["json", "markdown"] | None, Query(description="In which form; goes before the header Accept")
    ] = None,
    accept: Annotated[str | None, Header(description="`text/markdown` for Markdown", examples=[MARKDOWN])] = None,
) -> Any:
    """Gives a session whole, with all of its turns that are kept: as JSON, or as Markdown for people to read."""
    session, turns = await _whole(services, session_id)
    if format == "markdown" or (format is None and MARKDOWN in (accept or "")):
        return PlainTextResponse(as_markdown(session, turns), media_type=f"{MARKDOWN}; charset=utf-8")
    return SessionExport(**session_fields(session), turns=[turn_of(t) for t in turns])


@router.patch(
    "/{session_id}",
    operation_id="rename_session",
    summary="Rename a session",
    responses=answers(200, examples.SESSION, *BODY_ERRORS, SESSION_NOT_FOUND, BAD_SESSION_ID, BAD_TITLE),
)
async def rename_session(
    services: ServicesDep,
    session_id: SessionId,
    change: Annotated[SessionChange, Body(openapi_examples={"title": {"value": examples.SESSION_CHANGE}})],
) -> Session:
    """Gives a session another title, or none."""
    answer = await services.sessions.RenameSession(
        session_service_pb2.RenameSessionRequest(id=session_id, title=change.title)
    )
    return session_of(answer.session)


@router.post(
    "/{session_id}/fork",
    operation_id="fork_session",
    summary="Fork a session",
    status_code=201,
    responses=answers(
        201,
        examples.FORKED_SESSION,
        *BODY_ERRORS,
        SESSION_NOT_FOUND,
        BAD_UNTIL_TURN,
        location="The copy's path",
    ),
)
async def fork_session(
    services: ServicesDep,
    response: Response,
    session_id: SessionId,
    fork: Annotated[ForkRequest | None, Body(openapi_examples={"up to a turn": {"value": examples.FORK}})] = None,
) -> Session:
    """Makes a copy of a session that goes its own way from there: of all its turns, or of those up to one of them."""
    asked = fork or ForkRequest()
    answer = await services.sessions.ForkSession(
        session_service_pb2.ForkSessionRequest(id=session_id, until_turn=asked.until_turn, title=asked.title)
    )
    response.headers["Location"] = f"/api/v1/sessions/{answer.session.id}"
    return session_of(answer.session)


@router.delete(
    "/{session_id}",
    operation_id="delete_session",
    summary="Delete a session",
    status_code=204,
    responses=answers(204, None, SESSION_NOT_FOUND, SESSION_IN_USE, BAD_SESSION_ID),
)
async def delete_session(services: ServicesDep, session_id: SessionId) -> None:
    """Forgets a session, and what agents remember for it alone. Its runs stay, with `session_id` null: they have their
    own input and output. While a run of it has not ended the answer is 409; wait for it or cancel it. A later run with
    the same id begins a new session.
    """
    await services.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(id=session_id))


async def _session(services: ServicesDep, session_id: str) -> session_pb2.Session:
    return (await services.sessions.GetSession(session_service_pb2.GetSessionRequest(id=session_id))).session


async def _whole(services: ServicesDep, session_id: str) -> tuple[session_pb2.Session, list[session_pb2.SessionTurn]]:
    """The session and its turns up to the newest that it had when this began: later ones do not belong to it."""
    session = await _session(services, session_id)
    turns: list[session_pb2.SessionTurn] = []
    token = ""
    while True:
        page = await services.sessions.ListSessionTurns(
            session_service_pb2.ListSessionTurnsRequest(id=session_id, page_size=TURNS_PAGE, page_token=token)
        )
        turns += [turn for turn in page.turns if turn.number <= session.turn_count]
        token = page.next_page_token
        if not token:
            return session, turns
