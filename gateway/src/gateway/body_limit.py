"""Bounds on the size of request bodies, whether they say their length or come in chunks, and on how long they take."""

import asyncio
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import BodyTooLarge, problem_response


class BodyLimit:
    """ASGI middleware: a body that says it is too large is refused unread, another one where it becomes so.

    One that comes too slowly is given up. `larger` are the paths that take more, and how much; `slower` those that have
    more seconds.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, larger: Mapping[str, int], seconds: float, slower: Mapping[str, float]
    ) -> None:
        self._app = app
        self._seconds = seconds
        self._slower = slower
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
        received, is_whole = 0, False
        seconds = self._slower.get(scope["path"], self._seconds)
        over = asyncio.get_running_loop().time() + seconds

        async def counted() -> Message:
            nonlocal received, is_whole
            # After the body there is nothing to come but that the client goes.
            try:
                async with asyncio.timeout_at(None if is_whole else over):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"The body has not come within {seconds:g} s. Send it again.") from None
            is_whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > max_bytes:
                # FastAPI passes on this one, of what reading a body may raise.
                raise HTTPException(413, detail)
            return message

        await self._app(scope, counted, send)
