"""Who asks is found out before a request goes anywhere, and all that is done for it is done for them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from hearth_runtime.errors import HearthError, Unauthenticated
from hearth_runtime.keys import Scope
from hearth_runtime.principals import acting_for
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from gateway import scopes
from gateway.audit import Audit
from gateway.caller import Caller, set_caller
from gateway.callers import Callers
from gateway.errors import problem_response

TICKET_PARAMETER = "ticket"
# A browser can set no header for these: EventSource and WebSocket.
STREAMS = "/api/v1/logs/stream/"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSALS = frozenset({401, 403, 429})

NOT_KNOWN = (
    "Say who you are: send `Authorization: Bearer KEY`. Who runs Hearth makes keys with `hearth-admin keys create`."
)


class Login:
    """ASGI middleware. What a request needs is asked of `state["login"]` by its route; sockets are asked here."""

    def __init__(self, app: ASGIApp, callers: Callers, audit: Audit) -> None:
        self._app = app
        self._callers = callers
        self._audit = audit

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        entry = Entry(self._callers)
        try:
            entry.caller = await self._caller(scope)
        except HearthError as error:
            entry.error = error
        scope.setdefault("state", {})["login"] = entry
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            await send(message)

        # An own context for each request, which ends with it.
        set_caller(entry.caller)
        try:
            with acting_for(None if entry.caller is None else entry.caller.principal):
                if scope["type"] == "websocket":
                    await self._socket(entry, scope, receive, observed)
                else:
                    await self._app(scope, receive, observed)
        finally:
            set_caller(None)
            self._note(entry, scope, status)

    async def _socket(self, entry: "Entry", scope: Connection, receive: Receive, send: Send) -> None:
        try:
            await entry.require(scopes.SOCKETS)
        except HearthError as error:
            scope["state"]["problem"] = error.code
            await problem_response(error, scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _caller(self, scope: Connection) -> Caller | None:
        authorization = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        if authorization:
            return await self._callers.of_authorization(authorization)
        if scope["type"] == "websocket" or scope["path"].startswith(STREAMS):
            tickets = parse_qs(scope["query_string"].decode("latin-1")).get(TICKET_PARAMETER, [])
            if tickets:
                return await self._callers.of_ticket(tickets[0])
        return None

    def _note(self, entry: "Entry", scope: Connection, status: int) -> None:
        method = scope.get("method", "WS")
        is_change = entry.caller is not None and scope["type"] == "http" and method not in SAFE_METHODS
        if not is_change and status not in REFUSALS:
            return
        route = getattr(scope.get("route"), "path", None) or "unknown"
        self._audit.note(
            entry.caller,
            action=f"{method if method.isalpha() else '?'} {route}"[:200],
            target=scope["path"],
            status=status,
            code=_code(scope.get("state", {})),
            address=(scope.get("client") or ("",))[0],
        )


class Entry:
    """Who asks, or why that is not known."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self.caller: Caller | None = None
        self.error: HearthError | None = None

    async def require(self, needed: tuple[Scope, ...]) -> None:
        """Raises Unauthenticated and what else there is against the caller, and ScopeMissing."""
        if self.error is not None:
            raise self.error
        if self.caller is not None:
            scopes.check(needed, self.caller.scopes)
        elif await self._callers.is_login_needed():
            raise Unauthenticated(NOT_KNOWN)


def _code(state: Mapping[str, Any]) -> str:
    return str(state.get("problem", ""))
