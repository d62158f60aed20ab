"""WebSockets: events as JSON text frames, what a client says meanwhile, and how it all ends.

| code | why the gateway closes                                               |
| ---- | -------------------------------------------------------------------- |
| 1000 | the task has ended and `end` was sent                                |
| 1009 | a message of the client's is too large (by the server itself)        |
| 1012 | the gateway stops: connect again and resume                          |
| 1013 | the client reads too slowly, or the log service is away: come back   |
| 4400 | a message of the client's is not valid                               |
| 4401 | the key was revoked, or its time is over                             |
| 4404 | there is no such task                                                |
| 4422 | `after` or the task's id is not valid                                |

But for 1000, 1009 and 1012 a frame with the problem comes before.
"""

import asyncio
import contextlib
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from hearth_runtime.errors import HearthError

from gateway.errors import problem_json
from gateway.settings import GatewaySettings

NORMAL = 1000
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013
BAD_MESSAGE = 4400

HEARTBEAT = '{"kind":"heartbeat"}'
# A close frame must not wait for long on a client that does not read.
CLOSE_TIMEOUT_SECONDS = 2.0
# What the protocol allows for the text of a close frame.
MAX_REASON_BYTES = 123


class ClientGone(Exception):
    """The client has closed the socket, or has left a message unread for too long."""


class Socket:
    """An accepted WebSocket whose sends are bounded in time and whose messages can be waited for beside a stream."""

    def __init__(self, websocket: WebSocket, settings: GatewaySettings) -> None:
        self._websocket = websocket
        self._settings = settings
        self._receiving: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> "Socket":
        await self._websocket.accept()
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if self._receiving is not None:
            self._receiving.cancel()
        # That the client has gone is how most of its visits end.
        return isinstance(error, ClientGone)

    @property
    def received(self) -> asyncio.Task[Any]:
        """Done when the client has said something, or has gone; then `take` tells what."""
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._receive())
        return self._receiving

    def take(self) -> bytes:
        """What the client said, once `received` is done. Raises ClientGone."""
        message, self._receiving = self.received.result(), None
        if message["type"] == "websocket.disconnect":
            raise ClientGone
        text = message.get("text")
        return text.encode() if text is not None else bytes(message["bytes"])

    async def send(self, text: str) -> None:
        """Sends one frame. Raises ClientGone, the socket being closed with 1013 where the client did not read."""
        try:
            async with asyncio.timeout(self._settings.send_timeout_seconds):
                await self._websocket.send_text(text)
        except TimeoutError:
            seconds = f"{self._settings.send_timeout_seconds:g}"
            await self.close(TRY_AGAIN_LATER, f"A message was not read within {seconds} s. Connect again and resume.")
            raise ClientGone from None
        except (WebSocketDisconnect, RuntimeError):
            # RuntimeError is the server's way to say that it has closed by itself: for an unanswered ping, or a
            # message over the limit.
            raise ClientGone from None

    async def fail(self, error: HearthError, code: int | None = None) -> None:
        """Tells what went wrong, and closes with `code` or what fits the error."""
        problem = problem_json(error, self._websocket.url.path)
        await self.send(f'{{"kind":"error","error":{problem}}}')
        await self.close(code or _close_code(error), error.detail)

    async def close(self, code: int, reason: str = "") -> None:
        """Closes; a client that reads nothing is not waited for."""
        reason = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._websocket.close(code, reason)

    async def _receive(self) -> Any:
        return await self._websocket.receive()


def _close_code(error: HearthError) -> int:
    if error.retryable or error.http_status >= 500:
        return TRY_AGAIN_LATER
    return 4000 + error.http_status
