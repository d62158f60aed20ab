"""HTTP to a model host, over TCP or a unix socket, with bounds on what an answer may make a client keep in memory."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024
# What is compressed has no bound on what it unpacks to, and streams worse.
HEADERS = {"accept-encoding": "identity", "content-type": "application/json"}


class NotConnected(aiohttp.ClientError):
    """Nothing takes connections at the host's address, or not in time."""


class AnswerTooLong(aiohttp.ClientError):
    """An answer, or a line of it, is longer than may be kept."""


class Compressed(aiohttp.ClientError):
    """An answer is compressed, though that was not asked for."""


class Refused(aiohttp.ClientError):
    """The host answered with another status than 2xx."""

    def __init__(self, status_code: int, body: str) -> None:
        super().__init__(status_code, body)
        self.status_code = status_code
        self.body = body


class HostHttp:
    """The HTTP API of one host. `name` is its URL without credentials.

    Everything raises aiohttp.ClientError, with AnswerTooLong before an endless answer, or an endless line, fills the
    memory; OSError; and ValueError where an answer is no JSON. Time-outs, but for that of connecting, are the caller's.
    """

    def __init__(self, url: str, *, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._socket = url.removeprefix("unix:") if url.startswith("unix:") else None
        self._headers = dict(HEADERS)
        if self._socket is not None:
            self.name, self._base = url, "http://localhost"
        else:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
            self.name = self._base = bare.geturl().rstrip("/")
            if parts.username:
                credentials = aiohttp.encode_basic_auth(unquote(parts.username), unquote(parts.password or ""))
                self._headers["authorization"] = credentials
        self._opened: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes the connections."""
        if self._opened is not None:
            await self._opened.close()

    async def get(self, path: str) -> Any:
        """What a GET is answered with."""
        async with self._answer("GET", path, None) as answer:
            return json.loads(await _whole(answer))

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """What a POST is answered with."""
        async with self._answer("POST", path, body) as answer:
            return json.loads(await _whole(answer))

    async def lines(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Any]:
        """What a POST is answered with line by line, for as long as the host likes."""
        async with self._answer("POST", path, body) as answer:
            begun = bytearray()
            async for part in answer.content.iter_any():
                *ended, rest = part.split(b"\n")
                for line in ended:
                    begun += line
                    if begun.strip():
                        yield json.loads(begun)
                    begun.clear()
                begun += rest
                if len(begun) > MAX_LINE_BYTES:
                    raise AnswerTooLong(f"a line has more than {MAX_LINE_BYTES} bytes")
            if begun.strip():
                yield json.loads(begun)

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # As a file, which aiohttp sends in parts: an image may be large.
        data = None if body is None else BytesIO(json.dumps(body, ensure_ascii=False, allow_nan=False).encode())
        try:
            answer = await self._session().request(
                method, f"{self._base}{path}", data=data, headers=self._headers, allow_redirects=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotConnected(str(error)) from error
        async with answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise Compressed("it is compressed")
            if not 200 <= answer.status < 300:
                raise Refused(answer.status, (await _whole(answer)).decode(errors="replace"))
            yield answer

    def _session(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0)
                if self._socket is None
                else aiohttp.UnixConnector(self._socket, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_seconds),
            )
        return self._opened


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise AnswerTooLong(f"it has more than {MAX_BODY_BYTES} bytes")
    return bytes(body)
