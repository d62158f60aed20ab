"""SessionService: translates between messages and values, and decides nothing."""

from typing import Any

from hearth.agent.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from hearth_runtime.codec import to_message

from agent_service.session_store import StoredSessions


class SessionRpc(session_service_pb2_grpc.SessionServiceServicer):
    """hearth.agent.v1.SessionService."""

    def __init__(self, sessions: StoredSessions) -> None:
        self._sessions = sessions

    async def ListSessions(
        self, request: session_service_pb2.ListSessionsRequest, context: Any
    ) -> session_service_pb2.ListSessionsResponse:
        sessions, token = await self._sessions.page(
            size=request.page_size,
            token=request.page_token,
            agent_id=request.agent_id if request.HasField("agent_id") else None,
        )
        return session_service_pb2.ListSessionsResponse(
            sessions=[to_message(s, session_pb2.Session) for s in sessions], next_page_token=token
        )

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Any
    ) -> session_service_pb2.GetSessionResponse:
        session = await self._sessions.get(request.id)
        return session_service_pb2.GetSessionResponse(session=to_message(session, session_pb2.Session))

    async def ListSessionTurns(
        self, request: session_service_pb2.ListSessionTurnsRequest, context: Any
    ) -> session_service_pb2.ListSessionTurnsResponse:
        turns, token = await self._sessions.turns_page(request.id, size=request.page_size, token=request.page_token)
        return session_service_pb2.ListSessionTurnsResponse(
            turns=[to_message(t, session_pb2.SessionTurn) for t in turns], next_page_token=token
        )

    async def RenameSession(
        self, request: session_service_pb2.RenameSessionRequest, context: Any
    ) -> session_service_pb2.RenameSessionResponse:
        session = await self._sessions.rename(request.id, request.title if request.HasField("title") else None)
        return session_service_pb2.RenameSessionResponse(session=to_message(session, session_pb2.Session))

    async def ForkSession(
        self, request: session_service_pb2.ForkSessionRequest, context: Any
    ) -> session_service_pb2.ForkSessionResponse:
        fork = await self._sessions.fork(
            request.id,
            until_turn=request.until_turn if request.HasField("until_turn") else None,
            title=request.title if request.HasField("title") else None,
        )
        return session_service_pb2.ForkSessionResponse(session=to_message(fork, session_pb2.Session))

    async def DeleteSession(
        self, request: session_service_pb2.DeleteSessionRequest, context: Any
    ) -> session_service_pb2.DeleteSessionResponse:
        await self._sessions.delete(request.id)
        return session_service_pb2.DeleteSessionResponse()
