"""A bound on the size of request bodies, whether they say their length or come in chunks."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import BodyTooLarge, problem_response


class BodyLimit:
    """ASGI middleware: a body that says it is too large is refused unread, another one where it becomes so.

    `larger` are the paths that take more, and how much.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._larger.get(scope["path"], self._max_bytes)
        detail = f"The body has more than {max_bytes} bytes, the most that is taken. Send less."
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > max_bytes:
            await problem_response(BodyTooLarge(detail), scope["path"])(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes:
                # FastAPI passes on this one, of what reading a body may raise.
                raise HTTPException(413, detail)
            return message

        await self._app(scope, counted, send)
