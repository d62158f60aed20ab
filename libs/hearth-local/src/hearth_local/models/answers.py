"""How an answer leaves: as a stream of lines or as one object, and given up as soon as the client has gone."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from hearth_local.models.chat_model import Finish
from hearth_local.models.protocol import MAX_BODY_BYTES, ApiError

type Chunk = dict[str, Any]


async def body_of(request: Request) -> bytes:
    """The bytes of a request. Raises ApiError where they are too many."""
    received = bytearray()
    async for part in request.stream():
        received += part
        if len(received) > MAX_BODY_BYTES:
            raise ApiError(413, f"request body is too large: at most {MAX_BODY_BYTES} bytes")
    return bytes(received)


def stamp(model: str) -> Chunk:
    """What every object of an answer begins with: the model as the client named it, and when."""
    return {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def end(finish: Finish, total: int) -> Chunk:
    """What the last object says of the whole; durations in nanoseconds."""
    return {
        "done": True,
        "done_reason": finish.reason,
        **({"context": list(finish.context)} if finish.context else {}),
        "total_duration": total,
        "load_duration": finish.load_duration,
        "prompt_eval_count": finish.counts.prompt_tokens,
        "prompt_eval_duration": finish.counts.prompt_duration,
        "eval_count": finish.counts.tokens,
        "eval_duration": finish.counts.duration,
    }


async def answer(
    request: Request, chunks: AsyncGenerator[Chunk], *, streams: bool, piece: Callable[[str], Chunk]
) -> Response:
    """What fails before the first piece has a status of its own; later it is a line of the stream."""
    if not streams:
        return JSONResponse(await while_connected(request, _whole(chunks, piece)))
    first = await while_connected(request, _first(chunks))
    return StreamingResponse(_lines(first, chunks), media_type="application/x-ndjson")


async def while_connected[T](request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Does `work`, or gives it up when the client goes. Its request must have been read."""
    doing = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait([doing, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        doing.cancel()
        leaving.cancel()
        await asyncio.wait([doing, leaving])


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _first(chunks: AsyncGenerator[Chunk]) -> Chunk:
    return await anext(chunks)


async def _lines(first: Chunk, chunks: AsyncGenerator[Chunk]) -> AsyncIterator[bytes]:
    try:
        async with aclosing(chunks):
            yield _line(first)
            async for chunk in chunks:
                yield _line(chunk)
    except ApiError as error:
        yield _line({"error": error.message})


def _line(chunk: Chunk) -> bytes:
    return json.dumps(chunk, ensure_ascii=False).encode() + b"\n"


async def _whole(chunks: AsyncGenerator[Chunk], piece: Callable[[str], Chunk]) -> Chunk:
    async with aclosing(chunks):
        collected = [chunk async for chunk in chunks]
    pieces = [c["message"]["content"] if "message" in c else c["response"] for c in collected]
    return {**collected[-1], **piece("".join(pieces))}
