"""A route that checks, before anything else, what every call of the contract checks alike."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from hearth_runtime.errors import FieldViolation

from gateway.errors import UnsupportedMediaType, invalid_request
from gateway.validation import unknown_name

# Query parameters of this prefix have names of the client's: fields of an event's context. A route takes them by
# declaring the one that stands for all.
CONTEXT_PREFIX = "context."
CONTEXT_PARAMETER = "context.NAME"


class Route(APIRoute):
    """Refuses unknown query parameters, naming the nearest known one, and bodies that are not declared as JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler: Callable[[Request], Awaitable[Response]] = super().get_route_handler()
        known = {parameter.alias for parameter in self.dependant.query_params}
        takes_context = CONTEXT_PARAMETER in known
        body = self.body_field
        needs_body = body is not None and body.field_info.is_required()

        async def checked(request: Request) -> Response:
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
                _check_media_type(request)
            return await handler(request)

        return checked


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        sent = f"The body is declared as {media_type!r}." if media_type else "The body has no Content-Type."
        raise UnsupportedMediaType(f"{sent} Send JSON, with `Content-Type: application/json`.")
