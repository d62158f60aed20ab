"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

FastAPI's own machinery is used for the encoding alone. Its streaming of a path operation that yields begins the
response before the first item is there, so that an unknown task could not be a 404, and it takes every item through
Pydantic and two queues.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from fastapi.sse import format_sse_event
from hearth_runtime.errors import HearthError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import problem_json
from gateway.feeds import LiveEvent
from gateway.settings import GatewaySettings
from gateway.streams import EventStream, Streams
from gateway.translation import end_json

MEDIA_TYPE = "text/event-stream"
RETRY_MILLISECONDS = 1000
HEADERS: Mapping[str, str] = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
PIECE_BYTES = 64 * 1024
HEARTBEAT = format_sse_event(comment="heartbeat")


class SseResponse(Response):
    """A task's open stream as server-sent events; it is closed however this ends.

    It sends each piece itself: through a generator and Starlette's task group, a piece takes half as much time again.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, stream: EventStream, streams: Streams, settings: GatewaySettings, *, task_id: str, instance: str
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._stream = stream
        self._streams = streams
        self._heartbeat_seconds = settings.stream_heartbeat_seconds
        self._task_id = task_id
        self._instance = instance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends what there is, up to `end`, to `error` where the log service stays away, or until the client goes."""
        gone = asyncio.create_task(_gone(receive))
        gone.add_done_callback(lambda _: self._stream.stop())
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await _send(send, format_sse_event(retry=RETRY_MILLISECONDS))
            try:
                # In a task of its own, so that an event does not resume all that stands around this response.
                await asyncio.create_task(self._send_events(send))
            except HearthError as error:
                await _send(send, format_sse_event(data_str=problem_json(error, self._instance), event="error"))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._streams.close(self._stream)

    async def _send_events(self, send: Send) -> None:
        stream = self._stream
        while not stream.is_stopped:
            events = await stream.next(timeout=self._heartbeat_seconds)
            if events:
                for piece in _pieces(events):
                    await _send(send, piece)
                    if stream.is_stopped:
                        break
            elif stream.end is not None:
                await _send(send, format_sse_event(data_str=end_json(self._task_id, stream.end), event="end"))
                return
            elif not stream.is_stopped:
                await _send(send, HEARTBEAT)
        if stream.error is not None:
            raise stream.error


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


def _pieces(events: Sequence[LiveEvent]) -> Iterator[bytes]:
    """The events' frames together, in pieces that a client which reads slowly may have waiting for it."""
    piece: list[bytes] = []
    size = 0
    for event in events:
        if piece and size + len(event.frame) > PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(event.frame)
        size += len(event.frame)
    yield b"".join(piece)
