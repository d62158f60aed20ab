"""How Hearth is: health and metrics, and where to look further. They answer at the root as well."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse

from gateway import examples, health, metrics, scopes
from gateway.dependencies import GatewayDep
from gateway.documentation import DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, problems
from gateway.schemas.system import Health, Live

router = APIRouter(tags=["system"])


@router.get(
    "/health",
    operation_id="get_health",
    summary="Check the whole system",
    responses={
        200: {"content": {"application/json": {"example": examples.HEALTHY}}},
        503: {
            "model": Health,
            "description": "A service, or something that one cannot do without, is down",
            "content": {"application/json": {"example": examples.UNHEALTHY}},
        },
        **problems(INTERNAL),
    },
)
async def get_health(gateway: GatewayDep, response: Response) -> Health:
    """Asks each service for its state and for that of what it needs: PostgreSQL, Redis, model hosts, workers."""
    report = await health.check(gateway.services.runtimes, timeout_seconds=gateway.settings.health_timeout_seconds)
    if report.status == "unavailable":
        response.status_code = 503
    return report


@router.get(
    "/health/live",
    operation_id="get_live",
    summary="Check the gateway's process",
    responses={200: {"content": {"application/json": {"example": examples.LIVE}}}, **problems(INTERNAL)},
)
async def get_live() -> Live:
    """Answers as long as the gateway's process does, whatever else is down."""
    return Live(status="ok")


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Read all processes' metrics",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "Prometheus' text format 0.0.4",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}},
        },
        **problems(INTERNAL, UNAVAILABLE, DEADLINE_EXCEEDED),
    },
)
async def get_metrics(gateway: GatewayDep, request: Request) -> Response:
    """The metrics of every process, told apart by the label `service`; `hearth_service_up` says who has answered."""
    await request.state.login.require(scopes.NEEDED["get_metrics"])
    processes = {**gateway.services.runtimes, **gateway.services.workers}
    text = await metrics.collect(processes, timeout_seconds=gateway.settings.health_timeout_seconds)
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def install(app: FastAPI) -> None:
    """Adds the routes to `app`, below /api/v1 and at the root, where probes, Prometheus and people look."""
    app.include_router(router, prefix="/api/v1")
    app.include_router(router, include_in_schema=False)
    app.add_api_route("/", _index, include_in_schema=False)
    for prefix in ("", "/api/v1"):
        app.add_api_route(f"{prefix}/openapi.json", _openapi, include_in_schema=False)
        app.add_api_route(f"{prefix}/docs", _docs, include_in_schema=False, response_class=HTMLResponse)


async def _index() -> dict[str, Any]:
    return {
        "name": "Hearth",
        "links": {
            "docs": "/docs",
            "openapi": "/openapi.json",
            "health": "/health",
            "metrics": "/metrics",
            "agents": "/api/v1/agents",
            "tasks": "/api/v1/tasks",
            "models": "/api/v1/models",
        },
    }


async def _openapi(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


async def _docs() -> HTMLResponse:
    return get_swagger_ui_html(openapi_url="/openapi.json", title="Hearth")
