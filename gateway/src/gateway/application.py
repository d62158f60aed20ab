"""The ASGI application: the routes of the public contract around the services that they ask."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from gateway import documentation, errors
from gateway.body_limit import BodyLimit
from gateway.dependencies import Gateway
from gateway.login import Login
from gateway.observation import Observation
from gateway.origins import Origins
from gateway.routes import (
    agents,
    collections,
    documents,
    histories,
    logs,
    memories,
    models,
    search,
    sessions,
    sockets,
    system,
    tasks,
    tickets,
    tools,
)
from gateway.security_headers import SecurityHeaders

# What a page of another origin may send and see, where HEARTH_CORS_ORIGINS lets it ask at all.
CORS_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
CORS_REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer")
CORS_ANSWER_HEADERS = ("Location", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate")


def create_app(gateway: Gateway) -> FastAPI:
    """The application over `gateway`'s services."""
    app = FastAPI(
        title="Hearth",
        version="1.0.0",
        description=documentation.DESCRIPTION,
        openapi_tags=documentation.TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    # They are looked through in this order for each request.
    for module in (
        agents,
        tasks,
        logs,
        tools,
        histories,
        sessions,
        memories,
        documents,
        collections,
        search,
        models,
        sockets,
        tickets,
    ):
        app.include_router(module.router)
    app.include_router(tools.slow_router)
    app.include_router(documents.uploads)
    system.install(app)
    errors.install(app)
    documentation.install(app)
    # The last one added is the outermost.
    app.add_middleware(
        BodyLimit,
        max_bytes=gateway.settings.max_body_bytes,
        larger={
            documents.uploads.prefix: gateway.settings.max_upload_bytes,
            f"{agents.router.prefix}/run": gateway.settings.max_run_bytes,
        },
        seconds=gateway.settings.body_timeout_seconds,
        slower={documents.uploads.prefix: gateway.settings.upload_timeout_seconds},
    )
    app.add_middleware(Login, callers=gateway.callers, audit=gateway.audit)
    settings = gateway.settings
    if settings.cors_origin_list:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origin_list,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
        )
    app.add_middleware(Origins, hosts=settings.allowed_host_list, origins=settings.cors_origin_list)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observation)
    if gateway.settings.otlp_endpoint is not None:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        # Neither probes nor each chunk of a stream is worth a span.
        FastAPIInstrumentor.instrument_app(app, excluded_urls="/health,/metrics", exclude_spans=["receive", "send"])
    return app
