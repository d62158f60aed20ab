"""Who may be the page that asks: the `Host` and the `Origin` of a request, before anything else looks at it.

A page of anybody's can make its visitor's browser ask 127.0.0.1. It is kept out twice. By DNS rebinding its own name
comes to mean this address, which the `Host` shows: a name must be known here, and an address is nobody's name. Asking
from where it is, for a WebSocket too, to which no same-origin policy applies, it is told by the `Origin`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import grpc
from hearth_runtime.errors import HearthError
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import problem_response

HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
DEFAULT_PORTS = {"http": "80", "https": "443"}


class HostNotAllowed(HearthError):
    code = "host_not_allowed"
    title = "The request is for another host"
    status = grpc.StatusCode.PERMISSION_DENIED
    http_status = 421


class OriginNotAllowed(HearthError):
    code = "origin_not_allowed"
    title = "Pages from there may not ask"
    status = grpc.StatusCode.PERMISSION_DENIED
    http_status = 403


class Origins:
    """ASGI middleware: answers what is for another host with 421, and what comes from a foreign page with 403.

    `hosts` are the names that may be in `Host` besides addresses and localhost, `*.example.org` any below it and `*`
    any; `origins` such as `https://app.example.org` may ask besides the host's own pages.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app = app
        self._hosts = [host.lower() for host in hosts]
        self._origins = {origin.lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        error = self._obstacle(scope)
        if error is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(error, scope["path"])(scope, receive, send)

    def _obstacle(self, scope: Scope) -> HearthError | None:
        hosts, origins = (_values(scope, name) for name in (b"host", b"origin"))
        matched = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if matched is None or not self._is_known(matched["name"].lower()):
            shown = repr(hosts[0][:100]) if len(hosts) == 1 else "not there, or there twice"
            return HostNotAllowed(
                f"The request's Host is {shown}. Ask by an address or as localhost, or add the name to "
                "HEARTH_ALLOWED_HOSTS."
            )
        if not origins or (len(origins) == 1 and self._may_ask(origins[0].lower(), matched)):
            return None
        return OriginNotAllowed(
            f"A page from {origins[0][:100]!r} may not ask. Add it to HEARTH_CORS_ORIGINS if it is to be let in."
        )

    def _is_known(self, name: str) -> bool:
        if name == "localhost" or name.endswith(".localhost") or _is_address(name):
            return True
        return any(host in ("*", name) or (host.startswith("*.") and name.endswith(host[1:])) for host in self._hosts)

    def _may_ask(self, origin: str, host: re.Match[str]) -> bool:
        if origin in self._origins or "*" in self._origins:
            return True
        scheme, _, authority = origin.partition("://")
        matched = HOST.fullmatch(authority)
        if matched is None or scheme not in DEFAULT_PORTS:
            return False
        # By the scheme that the browser speaks: a proxy may have taken TLS off before this.
        default = DEFAULT_PORTS[scheme]
        return (matched["name"], matched["port"] or default) == (host["name"].lower(), host["port"] or default)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what serves on `host`."""
    name = host.lower().strip("[]")
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_origin(text: str) -> bool:
    """Whether `text` is what a browser sends as an `Origin`: scheme, host and port, and nothing after them."""
    parts = urlsplit(text)
    return (
        parts.scheme in DEFAULT_PORTS
        and HOST.fullmatch(parts.netloc) is not None
        and text == f"{parts.scheme}://{parts.netloc}"
    )


@lru_cache(maxsize=1000)
def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]
