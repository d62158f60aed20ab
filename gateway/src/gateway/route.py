"""A route that gives each call its deadline, and first checks what every call of the contract checks alike."""

import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from hearth_runtime.deadlines import within
from hearth_runtime.errors import FieldViolation

from gateway import scopes
from gateway.errors import UnsupportedMediaType, invalid_request
from gateway.settings import GatewaySettings
from gateway.validation import unknown_name

# Query parameters of this prefix have names of the client's: fields of an event's context. A route takes them by
# declaring the one that stands for all.
CONTEXT_PREFIX = "context."
CONTEXT_PARAMETER = "context.NAME"

WAIT_PREFERENCE = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(0*[1-9][0-9]{0,8})"?\s*(?=[;,]|$)', re.IGNORECASE | re.ASCII)


class Route(APIRoute):
    """Refuses who may not ask this, unknown query parameters, naming the nearest known one, and bodies that are not
    declared as JSON.

    All calls to services that a request causes share `rpc_timeout_seconds`, or less where the client prefers so.
    """

    takes_upload = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Awaitable[Response]] = super().get_route_handler()
        known = {parameter.alias for parameter in self.dependant.query_params}
        takes_context = CONTEXT_PARAMETER in known
        body = self.body_field
        needs_body = body is not None and body.field_info.is_required()
        needed = None if self.operation_id in scopes.OPEN else scopes.NEEDED[self.operation_id or ""]

        async def checked(request: Request) -> Response:
            if needed is not None:
                await request.state.login.require(needed)
            unknown = [
                name
                for name in request.query_params
                if name not in known and not (takes_context and name.startswith(CONTEXT_PREFIX))
            ]
            if unknown:
                raise invalid_request(
                    [FieldViolation(field=n, message=unknown_name(n, known, what="query parameter")) for n in unknown]
                )
            if needs_body or (body is not None and _has_body(request)):
                _check_media_type(request, takes_upload=self.takes_upload)
            with within(self._seconds(request)):
                return await handler(request)

        return checked

    def _seconds(self, request: Request) -> float:
        """How long the request may take, by the settings and `Prefer: wait=SECONDS`: RFC 7240, section 4.3."""
        limit = self.limit_seconds(request.app.state.gateway.settings)
        # Of a preference that is there twice the first one counts; one that makes no sense is none.
        preferred = WAIT_PREFERENCE.search(", ".join(request.headers.getlist("prefer")))
        return min(limit, float(preferred[1])) if preferred is not None else limit

    def limit_seconds(self, settings: GatewaySettings) -> float:
        """How long a request of this route may take at most."""
        return settings.rpc_timeout_seconds


class ToolRoute(Route):
    """A route that waits for a tool, which has a time of its own."""

    def limit_seconds(self, settings: GatewaySettings) -> float:
        """How long a tool that is tried by hand may take."""
        return settings.tool_timeout_seconds


class UploadRoute(Route):
    """A route that takes a form with a file, which takes as long as its client needs to send it."""

    takes_upload = True

    def limit_seconds(self, settings: GatewaySettings) -> float:
        """How long an upload may take."""
        return settings.upload_timeout_seconds


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _check_media_type(request: Request, *, takes_upload: bool) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if takes_upload:
        if media_type != "multipart/form-data":
            raise UnsupportedMediaType(
                f"The body is declared as {media_type or 'nothing'!r}. Send a form with a file, as `curl -F` does."
            )
        return
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        sent = f"The body is declared as {media_type!r}." if media_type else "The body has no Content-Type."
        raise UnsupportedMediaType(f"{sent} Send JSON, with `Content-Type: application/json`.")
