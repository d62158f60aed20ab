"""HTTP to a model host, over TCP or a unix socket, with bounds on what an answer may make a client keep in memory."""

import re
from collections.abc import AsyncIterator

import httpx

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024
# These answer line by line, for as long as they like; all else is kept whole.
STREAMED = ("/api/chat", "/api/generate")

# They end a line for httpx, and no line of JSON, in whose strings they may stand as they are. Go leaves the first.
_SEPARATORS = {c.encode(): b"\\u%04x" % ord(c) for c in "\x85\u2028\u2029"}
_SEPARATOR = re.compile(b"|".join(_SEPARATORS))
_BEGUN_SEPARATOR = re.compile(rb"(\xc2|\xe2\x80?)\Z")


class AnswerTooLong(httpx.TransportError):
    """An answer, or a line of it, is longer than may be kept."""


class Compressed(httpx.TransportError):
    """An answer is compressed, though that was not asked for: what it unpacks to has no bound."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Raises AnswerTooLong before an endless answer, or an endless line, fills the memory; and Compressed."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise Compressed("it is compressed")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        is_streamed = response.is_success and request.url.path.endswith(STREAMED)
        response.stream = _Bounded(response.stream, max_body_bytes=None if is_streamed else MAX_BODY_BYTES)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, *, max_body_bytes: int | None) -> None:
        self._inner = inner
        self._max_body_bytes = max_body_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        line = body = 0
        held = b""  # the beginning of what may be a separator
        async for part in self._inner:
            newline = part.rfind(b"\n")
            line = line + len(part) if newline < 0 else len(part) - newline - 1
            if line > MAX_LINE_BYTES:
                raise AnswerTooLong(f"a line has more than {MAX_LINE_BYTES} bytes")
            body += len(part)
            if self._max_body_bytes is not None and body > self._max_body_bytes:
                raise AnswerTooLong(f"it has more than {self._max_body_bytes} bytes")
            whole = held + part
            begun = _BEGUN_SEPARATOR.search(whole, max(0, len(whole) - 2))
            held = begun[0] if begun is not None else b""
            yield _SEPARATOR.sub(_escaped, whole.removesuffix(held))
        if held:
            yield held

    async def aclose(self) -> None:
        await self._inner.aclose()


def _escaped(separator: re.Match[bytes]) -> bytes:
    return _SEPARATORS[separator[0]]
