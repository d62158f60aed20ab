"""HTTP for tools: only where the agent's owner lets it go, and never into a network that nobody named.

An address is checked after its name is resolved, and the connection is made to that very address, so no second answer
of a name server leads elsewhere. Every redirect is a new request to all of this. Nothing comes from the environment: no
proxy, no credentials. Source: OWASP's Server-Side Request Forgery Prevention Cheat Sheet.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import httpcore
import httpx

MAX_REDIRECTS = 5
MAX_URL_CHARACTERS = 4000
REDIRECTS = (301, 302, 303, 307, 308)
PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class WebRefused(Exception):
    """A request that is not made, or an answer that is not taken, and why: for a model and its owner."""


class WebFailed(Exception):
    """A request that did not get an answer, and why."""


@dataclass(frozen=True, kw_only=True)
class WebRules:
    """Where requests may go.

    `allow` has hosts ("api.example.com"), hosts below one ("*.example.com"), URL prefixes ("https://example.com/v1/")
    and "*" for any public host. `private` has hosts and networks ("10.0.0.0/8") whose addresses need not be public.
    """

    allow: tuple[str, ...]
    private: tuple[str, ...] = ()

    def check_url(self, url: str) -> None:
        """Raises WebRefused where no entry of `allow` covers the URL."""
        parts = _split(url)
        host = parts.hostname or ""
        for entry in self.allow:
            if "://" in entry:
                if _is_below(url, entry):
                    return
            elif entry == "*" or host == entry.lower() or (entry.startswith("*.") and host.endswith(entry[1:].lower())):
                return
        raise WebRefused(f"{host} is not allowed. Allowed: {', '.join(self.allow)}.")

    def check_address(self, host: str, address: str) -> None:
        """Raises WebRefused where the address that `host` has is not public and nobody named it."""
        found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        if _is_public(found):
            return
        for entry in self.private:
            if host == entry.lower():
                return
            try:
                network = ipaddress.ip_network(entry)
            except ValueError:
                continue
            if found in network:
                return
        raise WebRefused(f"{host} is at {address}, which is no public address and is not named in `private`.")


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
                charset = value.strip("\"' ")
        try:
            return self.body.decode(charset, errors="replace")
        except LookupError:
            return self.body.decode(errors="replace")


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Web:
    """Makes requests by `rules`; `resolve` is who knows the addresses of names."""

    def __init__(self, rules: WebRules, *, timeout_seconds: float, max_bytes: int, resolve: Resolve = resolve) -> None:
        self._rules = rules
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._backend = _CheckedBackend(rules, resolve)

    async def request(self, request: WebRequest) -> WebAnswer:
        """The answer, after at most MAX_REDIRECTS redirects. Raises WebRefused and WebFailed."""
        url, method, body, headers = request.url, request.method, request.body, dict(request.headers)
        async with httpcore.AsyncConnectionPool(network_backend=self._backend, max_connections=1) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                self._rules.check_url(url)
                answer, location = await self._once(pool, method, url, headers, body)
                if location is None:
                    return answer
                target = urljoin(url, location)
                if _origin(target) != _origin(url):
                    headers = {}
                if answer.status == 303 or (answer.status in (301, 302) and method not in ("GET", "HEAD")):
                    method, body = "GET", None
                url = target
        raise WebRefused(f"{request.url} redirects more than {MAX_REDIRECTS} times.")

    async def _once(
        self, pool: httpcore.AsyncConnectionPool, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[WebAnswer, str | None]:
        """The answer, and where it redirects to."""
        parts = _split(url)
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
            raise WebFailed(f"{url} gave no answer within {self._timeout_seconds:g} seconds.") from error
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
        self._rules.check_url(str(request.url))
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
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    """The body of an answer."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_stream():
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


def _split(url: str) -> SplitResult:
    """The parts of an http or https URL. Raises WebRefused."""
    if len(url) > MAX_URL_CHARACTERS:
        raise WebRefused(f"The URL is longer than {MAX_URL_CHARACTERS} characters.")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise WebRefused(f"{url!r} is no URL: escape what is not ASCII, and spaces.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WebRefused(f"{url!r} is no URL: {error}.") from error
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise WebRefused(f"{url!r} is no http or https URL with a host.")
    if "@" in parts.netloc:
        raise WebRefused("A URL must have no user name or password in it.")
    return parts


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = _split(url)
    return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]


def _is_below(url: str, prefix: str) -> bool:
    """Whether the URL has the prefix's origin and a path below its path; a path with dots goes nowhere."""
    path, wanted = _split(url).path or "/", _split(prefix).path or "/"
    if _origin(url) != _origin(prefix) or any(unquote(part) in (".", "..") for part in path.split("/")):
        return False
    return path == wanted or path.startswith(wanted if wanted.endswith("/") else f"{wanted}/")


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        # IPv4 addresses in the clothes of IPv6: the connection may end at those.
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast
