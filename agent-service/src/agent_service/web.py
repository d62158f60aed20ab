"""HTTP for tools: only where the agent's owner lets it go, and never into a network that nobody named.

An address is checked after its name is resolved, and the connection is made to that very address, so no second answer
of a name server leads elsewhere. Every redirect is a new request to all of this. Nothing comes from the environment: no
proxy, no credentials. Source: OWASP's Server-Side Request Forgery Prevention Cheat Sheet.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import httpcore
import httpx

from agent_service.web_rules import WebRefused, WebRules, joined, origin, split_url

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
# Encodings of characters that pages are in; Python knows others, which take long to read or are no such encodings.
CHARSETS = re.compile(
    r"utf-?(8|16|32)(-?[lb]e)?|(us-)?ascii|latin-?1|iso-?8859-?\d{1,2}|(windows-?|cp)125\d|koi8-[ru]|gb(2312|k|18030)|big5"
    r"|shift[_-]jis|euc-(jp|kr)"
)
# What one answer may have that is read as it comes, as a stream of events is.
MAX_STREAM_BYTES = 20_000_000

type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class WebFailed(Exception):
    """A request that did not get an answer, and why."""


@dataclass(frozen=True, kw_only=True)
class WebRequest:
    """What to ask. `headers` are the owner's own, and go to no other place than that of `url`."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class WebAnswer:
    """What came; `url` is the last one, `is_cut` says that the body was longer."""

    status: int
    url: str
    content_type: str
    body: bytes
    is_cut: bool

    @property
    def text(self) -> str:
        """The body as text, by its charset or as UTF-8."""
        charset = "utf-8"
        for part in self.content_type.split(";")[1:]:
            name, _, value = part.strip().partition("=")
            if name.lower() == "charset":
                charset = value.strip("\"' ").lower()
        try:
            return self.body.decode(charset if CHARSETS.fullmatch(charset) else "utf-8", errors="replace")
        except LookupError:
            return self.body.decode(errors="replace")


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host. Raises OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name with a label that is empty or too long
        raise OSError(f"{host} is no name of a host") from error
    return [str(address[0]) for *_, address in found]


class Web:
    """Makes requests by `rules`; `resolve` is who knows the addresses of names."""

    def __init__(self, rules: WebRules, *, timeout_seconds: float, max_bytes: int, resolve: Resolve = resolve) -> None:
        self._rules = rules
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._backend = _CheckedBackend(rules, resolve)

    async def request(self, request: WebRequest) -> WebAnswer:
        """The answer, after at most MAX_REDIRECTS redirects, within the time-out. Raises WebRefused and WebFailed."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._followed(request)
        except TimeoutError as error:
            raise WebFailed(f"{request.url} gave no answer within {self._timeout_seconds:g} seconds.") from error

    async def _followed(self, request: WebRequest) -> WebAnswer:
        url, method, body, headers = request.url, request.method, request.body, dict(request.headers)
        async with httpcore.AsyncConnectionPool(network_backend=self._backend, max_connections=1) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                self._rules.check_url(url)
                answer, location = await self._once(pool, method, url, headers, body)
                if location is None:
                    return answer
                target = joined(url, location)
                if origin(target) != origin(url):
                    headers = {}
                if answer.status == 303 or (answer.status in (301, 302) and method not in ("GET", "HEAD")):
                    method, body = "GET", None
                url = target
        raise WebRefused(f"{request.url} redirects more than {MAX_REDIRECTS} times.")

    async def _once(
        self, pool: httpcore.AsyncConnectionPool, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[WebAnswer, str | None]:
        """The answer, and where it redirects to."""
        parts = split_url(url)
        # No other encoding is asked for, so that a small answer cannot become a large one.
        fields = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "Hearth", "Accept-Encoding": "identity"}
        fields |= {"Content-Length": str(len(body))} if body is not None else {}
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_seconds)
        try:
            async with pool.stream(
                method, url.partition("#")[0], headers=list({**fields, **headers}.items()), content=body,
                extensions={"timeout": timeouts},
            ) as response:  # fmt: skip
                given = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if given.get("content-encoding", "identity") != "identity":
                    raise WebRefused(
                        f"{url} answers in the encoding {given['content-encoding']}, which was not asked for."
                    )
                received = bytearray()
                async for chunk in response.aiter_stream():
                    received += chunk
                    if len(received) > self._max_bytes:
                        break
        except (httpcore.TimeoutException, TimeoutError) as error:
            raise TimeoutError from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
            raise WebFailed(f"{url} cannot be reached: {str(error) or type(error).__name__}.") from error
        answer = WebAnswer(
            status=response.status,
            url=url,
            content_type=given.get("content-type", ""),
            body=bytes(received[: self._max_bytes]),
            is_cut=len(received) > self._max_bytes,
        )
        return answer, given.get("location") if response.status in REDIRECTS else None


class WebTransport(httpx.AsyncBaseTransport):
    """httpx's way to the network, by `rules`. Whoever uses it follows no redirect by itself."""

    def __init__(self, rules: WebRules, *, resolve: Resolve = resolve) -> None:
        self._rules = rules
        self._pool = httpcore.AsyncConnectionPool(network_backend=_CheckedBackend(rules, resolve))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises WebRefused and WebFailed, also while the body is read."""
        self._rules.check_url(str(request.url))
        # A small answer cannot become a large one.
        request.headers["Accept-Encoding"] = "identity"
        try:
            response = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=str(request.url),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise WebFailed(f"{request.url} cannot be reached: {str(error) or type(error).__name__}.") from error
        encoding = httpx.Headers(response.headers).get("content-encoding", "identity")
        if encoding != "identity":
            await response.aclose()
            raise WebRefused(f"{request.url} answers in the encoding {encoding}, which was not asked for.")
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, MAX_STREAM_BYTES at most."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in self._response.aiter_stream():
            received += len(chunk)
            if received > MAX_STREAM_BYTES:
                raise WebRefused(f"The answer is longer than {MAX_STREAM_BYTES} bytes.")
            yield chunk

    async def aclose(self) -> None:
        await self._response.aclose()


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked, and to no others."""

    def __init__(self, rules: WebRules, resolve: Resolve) -> None:
        self._rules = rules
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        async with asyncio.timeout(timeout):
            try:
                addresses = await self._resolve(host, port)
            except OSError as error:
                raise httpcore.ConnectError(f"{host} is not known") from error
        for address in addresses:
            self._rules.check_address(host, address)
        last: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                last = failure
        raise last
