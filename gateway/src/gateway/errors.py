"""Errors as a client of the public contract sees them: RFC 9457 problem details, always with a stable `code`."""

import json
import math
from collections.abc import Mapping
from typing import Any

import grpc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from hearth_runtime.errors import (
    Cancelled,
    Conflict,
    FieldViolation,
    HearthError,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.allowed_methods import allowed_methods
from gateway.validation import violations

MEDIA_TYPE = "application/problem+json"
# Where an error doesn't know better: asked again after this time, a service that restarts is likely there.
RETRY_AFTER_SECONDS = 2.0

# What the services call otherwise than the public contract does.
_PUBLIC_NAMES = {"page_token": "cursor", "page_size": "limit", "after_stream_id": "after"}


class InvalidRequest(InvalidArgument):
    code = "invalid_request"
    title = "The request is not valid"


class MalformedJson(InvalidArgument):
    code = "malformed_json"
    title = "The body is not JSON"
    http_status = 400


class MalformedForm(InvalidArgument):
    code = "malformed_form"
    title = "The body is not a form"
    http_status = 400


class LoginNotNeeded(Conflict):
    code = "login_not_needed"
    title = "No login is needed"


class RouteNotFound(NotFound):
    code = "route_not_found"
    title = "There is no such path"


class MethodNotAllowed(HearthError):
    code = "method_not_allowed"
    title = "The path does not take this method"
    status = grpc.StatusCode.UNIMPLEMENTED
    http_status = 405


class BodyTooLarge(HearthError):
    code = "body_too_large"
    title = "The body is too large"
    status = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 413


class BodyTooSlow(HearthError):
    code = "body_too_slow"
    title = "The body comes too slowly"
    status = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 408


class UnsupportedMediaType(HearthError):
    code = "unsupported_media_type"
    title = "The body is of a type that is not taken"
    status = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 415


def problem(error: HearthError, instance: str) -> dict[str, Any]:
    """`error` as problem details for the request of the path `instance`."""
    details: dict[str, Any] = {
        "type": f"urn:hearth:problem:{error.code}",
        "title": error.title,
        "status": _http_status(error),
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
    }
    if error.fields:
        details["errors"] = [{"field": _PUBLIC_NAMES.get(f.field, f.field), "message": f.message} for f in error.fields]
    return details


def problem_json(error: HearthError, instance: str) -> str:
    """The same as JSON text. ASCII, so that whatever a client sent and sees again can be written."""
    return json.dumps(problem(error, instance), separators=(",", ":"))


def problem_response(error: HearthError, instance: str, headers: Mapping[str, str] | None = None) -> Response:
    """The same as an HTTP response."""
    status = _http_status(error)
    headers = {**_challenge(error), **_quota(error), **(headers or {})}
    if status in (429, 503):
        wait = RETRY_AFTER_SECONDS if error.retry_after_seconds is None else error.retry_after_seconds
        # Whole seconds, by https://www.rfc-editor.org/rfc/rfc9110#field.retry-after.
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    return Response(problem_json(error, instance), status_code=status, headers=headers, media_type=MEDIA_TYPE)


def _challenge(error: HearthError) -> dict[str, str]:
    """By https://www.rfc-editor.org/rfc/rfc6750#section-3."""
    if isinstance(error, Unauthenticated):
        reason = "" if type(error) is Unauthenticated else ', error="invalid_token"'
        return {"WWW-Authenticate": f'Bearer realm="hearth"{reason}'}
    if error.code == "scope_missing":
        scope = error.metadata.get("scope", "")
        return {"WWW-Authenticate": f'Bearer realm="hearth", error="insufficient_scope", scope="{scope}"'}
    return {}


def _quota(error: HearthError) -> dict[str, str]:
    """By https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/10/."""
    quota, limit, window = (error.metadata.get(name) for name in ("quota", "limit", "window_seconds"))
    if error.code != "quota_exceeded" or quota is None:
        return {}
    seconds = max(1, math.ceil(error.retry_after_seconds or 1))
    return {
        "RateLimit-Policy": f'"{quota}";q={limit}' + ("" if window is None else f";w={window}"),
        "RateLimit": f'"{quota}";r=0;t={seconds}',
    }


def install(app: FastAPI) -> None:
    """Answers every error of `app` with problem details, but for unexpected ones, which `observation` answers."""
    app.add_exception_handler(HearthError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def _http_status(error: HearthError) -> int:
    # A service that stops cancels its calls: for the client that is a service which is away for the moment.
    return 503 if isinstance(error, Cancelled) else error.http_status


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, HearthError)
    request.state.problem = error.code
    return problem_response(error, request.url.path)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if errors and errors[0]["type"] == "json_invalid":
        position = errors[0]["loc"][-1]
        reason = errors[0]["ctx"]["error"]
        return problem_response(
            MalformedJson(f"The body is not JSON: {reason} at character {position}. Mend it and send it again."),
            request.url.path,
        )
    return problem_response(invalid_request(violations(errors)), request.url.path)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    match error.status_code:
        case 404:
            return problem_response(RouteNotFound(f"There is no path {path}. GET /docs lists those there are."), path)
        case 405:
            allow = ", ".join(allowed_methods(request.app, path))
            detail = f"{path} does not take {request.method}. It takes {allow}."
            return problem_response(MethodNotAllowed(detail), path, {"Allow": allow})
        case 408:
            return problem_response(BodyTooSlow(error.detail), path, {"Connection": "close"})
        case 413:
            return problem_response(BodyTooLarge(error.detail), path)
        case _ if request.headers.get("content-type", "").lower().startswith("multipart/"):
            detail = "The body cannot be read as multipart/form-data: send it as `curl -F` does."
            return problem_response(MalformedForm(detail), path)
        case _:
            return problem_response(
                MalformedJson("The body cannot be read: send JSON in UTF-8, nested less deep."), path
            )


def invalid_request(fields: list[FieldViolation]) -> InvalidRequest:
    """The error that names `fields`, at least one."""
    first = f"{fields[0].field}: {fields[0].message}"
    more = f" {len(fields) - 1} more in `errors`." if len(fields) > 1 else ""
    return InvalidRequest(f"{first}{'' if first.endswith(('.', '?')) else '.'}{more}", fields=fields)
