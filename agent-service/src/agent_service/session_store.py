"""The table `sessions`, as storage-service keeps it."""

from collections.abc import AsyncIterator

import grpc.aio
from hearth.storage.v1 import session_store_pb2, session_store_pb2_grpc
from hearth_runtime.codec import from_message
from hearth_runtime.identifiers import new_id
from hearth_runtime.sessions import Session, SessionTurn

TURNS_PAGE = 500


class StoredSessions:
    """The sessions. What is asked for by id raises SessionNotFound."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = session_store_pb2_grpc.SessionStoreServiceStub(channel)

    async def page(self, *, size: int, token: str, agent_id: str | None) -> tuple[tuple[Session, ...], str]:
        """A page of sessions, the newest first, and the next page's token."""
        answer = await self._stub.ListSessions(
            session_store_pb2.ListSessionsRequest(page_size=size, page_token=token, agent_id=agent_id)
        )
        return tuple(from_message(s, Session) for s in answer.sessions), answer.next_page_token

    async def get(self, session_id: str) -> Session:
        answer = await self._stub.GetSession(session_store_pb2.GetSessionRequest(id=session_id))
        return from_message(answer.session, Session)

    async def turns_page(
        self, session_id: str, *, size: int, token: str, after_turn: int = 0
    ) -> tuple[tuple[SessionTurn, ...], str]:
        """A page of the session's turns after `after_turn`, the oldest first, and the next page's token."""
        answer = await self._stub.ListSessionTurns(
            session_store_pb2.ListSessionTurnsRequest(
                id=session_id, page_size=size, page_token=token, after_turn=after_turn
            )
        )
        return tuple(from_message(t, SessionTurn) for t in answer.turns), answer.next_page_token

    async def turns(self, session_id: str, *, after_turn: int) -> AsyncIterator[SessionTurn]:
        """All that is kept of the session's turns after that one, the oldest first."""
        token = ""
        while True:
            turns, token = await self.turns_page(session_id, size=TURNS_PAGE, token=token, after_turn=after_turn)
            for turn in turns:
                yield turn
            if not token:
                return

    async def rename(self, session_id: str, title: str | None) -> Session:
        answer = await self._stub.RenameSession(session_store_pb2.RenameSessionRequest(id=session_id, title=title))
        return from_message(answer.session, Session)

    async def fork(self, session_id: str, *, until_turn: int | None, title: str | None) -> Session:
        """A copy of it. Raises InvalidArgument where it does not keep that turn."""
        answer = await self._stub.ForkSession(
            session_store_pb2.ForkSessionRequest(id=new_id(), source_id=session_id, until_turn=until_turn, title=title)
        )
        return from_message(answer.session, Session)

    async def delete(self, session_id: str) -> None:
        """Forgets it. Raises SessionInUse."""
        await self._stub.DeleteSession(session_store_pb2.DeleteSessionRequest(id=session_id))

    async def save_summary(self, session: Session, summary: str, *, summarized_turns: int) -> bool:
        """Has the summary stand for the turns up to that one; False where another one came before."""
        answer = await self._stub.SaveSummary(
            session_store_pb2.SaveSummaryRequest(
                id=session.id, summary=summary, from_turns=session.summarized_turns, summarized_turns=summarized_turns
            )
        )
        return answer.is_saved
