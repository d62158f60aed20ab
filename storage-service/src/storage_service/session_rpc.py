"""The RPCs of sessions: requests to values and back. Only whether a request is valid is decided here."""

from typing import Any

from hearth.agent.v1 import session_pb2
from hearth.storage.v1 import session_store_pb2, session_store_pb2_grpc
from hearth_runtime.codec import to_message
from hearth_runtime.identifiers import is_id
from hearth_runtime.sessions import Session

from storage_service import arguments
from storage_service.sessions import Sessions, session_not_found

PAGE_LIMIT = 500
SUMMARY_CHARACTERS = 20_000


class SessionStoreRpc(session_store_pb2_grpc.SessionStoreServiceServicer):
    """The table `sessions`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def ListSessions(self, request: Any, context: Any) -> session_store_pb2.ListSessionsResponse:
        page = await self._sessions.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
            agent_id=arguments.uuid(request.agent_id, "agent_id") if request.HasField("agent_id") else None,
        )
        return session_store_pb2.ListSessionsResponse(
            sessions=[_message(session) for session in page.items], next_page_token=page.next_token
        )

    async def GetSession(self, request: Any, context: Any) -> session_store_pb2.GetSessionResponse:
        return session_store_pb2.GetSessionResponse(session=_message(await self._sessions.get(_id(request.id))))

    async def ListSessionTurns(self, request: Any, context: Any) -> session_store_pb2.ListSessionTurnsResponse:
        page = await self._sessions.turns(
            _id(request.id),
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
            after_turn=request.after_turn,
        )
        return session_store_pb2.ListSessionTurnsResponse(
            turns=[to_message(turn, session_pb2.SessionTurn) for turn in page.items], next_page_token=page.next_token
        )

    async def RenameSession(self, request: Any, context: Any) -> session_store_pb2.RenameSessionResponse:
        session = await self._sessions.rename(_id(request.id), _title(request))
        return session_store_pb2.RenameSessionResponse(session=_message(session))

    async def ForkSession(self, request: Any, context: Any) -> session_store_pb2.ForkSessionResponse:
        fork = await self._sessions.fork(
            arguments.uuid(request.id, "id"),
            _id(request.source_id),
            until_turn=request.until_turn if request.HasField("until_turn") else None,
            title=_title(request),
        )
        return session_store_pb2.ForkSessionResponse(session=_message(fork))

    async def DeleteSession(self, request: Any, context: Any) -> session_store_pb2.DeleteSessionResponse:
        await self._sessions.delete(_id(request.id))
        return session_store_pb2.DeleteSessionResponse()

    async def SaveSummary(self, request: Any, context: Any) -> session_store_pb2.SaveSummaryResponse:
        if not 0 < len(request.summary) <= SUMMARY_CHARACTERS:
            raise arguments.invalid("summary", f"must have 1 to {SUMMARY_CHARACTERS} characters")
        is_saved = await self._sessions.save_summary(
            _id(request.id),
            request.summary,
            from_turns=request.from_turns,
            summarized_turns=request.summarized_turns,
        )
        return session_store_pb2.SaveSummaryResponse(is_saved=is_saved)


def _message(session: Session) -> session_pb2.Session:
    return to_message(session, session_pb2.Session)


def _id(text: str) -> str:
    if not is_id(text):
        raise session_not_found(text)
    return text


def _title(request: Any) -> str | None:
    return arguments.name(request.title, "title") if request.HasField("title") else None
