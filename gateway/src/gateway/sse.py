"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html.

FastAPI's own machinery is used for the encoding alone. Its streaming of a path operation that yields begins the
response before the first item is there, so that an unknown task could not be a 404, and it takes every item through
Pydantic and two queues.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing

from fastapi.sse import format_sse_event
from hearth_runtime.errors import HearthError
from starlette.responses import StreamingResponse
from starlette.types import Send

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


class SseResponse(StreamingResponse):
    """A task's open stream as server-sent events; it is closed however this ends."""

    media_type = MEDIA_TYPE

    def __init__(
        self, stream: EventStream, streams: Streams, settings: GatewaySettings, *, task_id: str, instance: str
    ) -> None:
        self._stream = stream
        self._streams = streams
        self._content = _encoded(stream, settings, task_id=task_id, instance=instance)
        super().__init__(self._content, headers=HEADERS)

    async def stream_response(self, send: Send) -> None:
        """Sends what there is. A client that goes away cancels this in `send`, where the generator learns nothing."""
        try:
            async with aclosing(self._content):
                await super().stream_response(send)
        finally:
            self._streams.close(self._stream)


async def _encoded(
    stream: EventStream, settings: GatewaySettings, *, task_id: str, instance: str
) -> AsyncGenerator[bytes]:
    """The events up to `end`, or to `error` where the log service stays away."""
    yield format_sse_event(retry=RETRY_MILLISECONDS)
    try:
        while not stream.is_stopped:
            events = await stream.next(timeout=settings.stream_heartbeat_seconds)
            if events:
                for piece in _pieces(events):
                    yield piece
                    if stream.is_stopped:
                        break
            elif stream.end is not None:
                yield format_sse_event(data_str=end_json(task_id, stream.end), event="end")
                return
            elif not stream.is_stopped:
                yield HEARTBEAT
        if stream.error is not None:
            raise stream.error
    except HearthError as error:
        yield format_sse_event(data_str=problem_json(error, instance), event="error")


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
