"""What is told of each HTTP request: one log line, two metrics; and of an unexpected error, which ends here."""

import time
from uuid import uuid4

from hearth_runtime.deadlines import within
from hearth_runtime.errors import HearthError
from loguru import logger
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.errors import problem_response

REQUESTS = Counter("hearth_http_requests_total", "HTTP requests that were answered", ["method", "route", "status"])
SECONDS = Histogram("hearth_http_seconds", "Time to the last byte of an answer", ["method", "route"])

KNOWN_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})


class Observation:
    """ASGI middleware, the outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # uvicorn begins it in the context of a request that its connection carried before; see `main`.
            with within(None):
                await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            reference = uuid4().hex[:8]
            logger.opt(exception=error).error(
                "a request failed unexpectedly", method=scope["method"], path=scope["path"], reference=reference
            )
            # An answer that has begun can only be cut short.
            if status:
                raise
            hidden = HearthError(f"An unexpected error. The gateway's log has it under reference {reference}.")
            await problem_response(hidden, scope["path"])(scope, receive, observed)
        finally:
            _record(scope, status, time.perf_counter() - started)


def _record(scope: Scope, status: int, seconds: float) -> None:
    # A client chooses its path and method; labels are ours.
    route = getattr(scope.get("route"), "path", None) or "unknown"
    method = scope["method"] if scope["method"] in KNOWN_METHODS else "other"
    REQUESTS.labels(method, route, status or "none").inc()
    SECONDS.labels(method, route).observe(seconds)
    logger.debug(
        "answered", method=scope["method"], path=scope["path"], status=status, milliseconds=round(seconds * 1000, 2)
    )
