"""HTTP to a model host, over TCP or a unix socket, with a bound on what one line of an answer may hold."""

from collections.abc import AsyncIterator

import httpx

MAX_LINE_BYTES = 16 * 1024 * 1024


class LineTooLong(httpx.TransportError):
    """A line of an answer is longer than MAX_LINE_BYTES."""


class BoundedTransport(httpx.AsyncBaseTransport):
    """Raises LineTooLong before an endless line, which a client would keep whole, fills the memory."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _BoundedLines(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedLines(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for part in self._inner:
            newline = part.rfind(b"\n")
            length = length + len(part) if newline < 0 else len(part) - newline - 1
            if length > MAX_LINE_BYTES:
                raise LineTooLong(f"a line has more than {MAX_LINE_BYTES} bytes")
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
