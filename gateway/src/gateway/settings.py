"""What the gateway needs to know."""

from typing import Literal, Self

from hearth_runtime.settings import RuntimeSettings
from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.links import TRACE_ID
from gateway.origins import HOST, is_loopback, is_origin


class GatewaySettings(RuntimeSettings):
    """Where it serves, whom it asks, and how much it takes."""

    host: str = Field("127.0.0.1", description="The address on which the gateway serves HTTP")
    port: int = Field(8000, ge=0, le=65535, description="The port on which the gateway serves HTTP; 0 takes a free one")

    allowed_hosts: str = Field(
        "",
        description="Names that a request's `Host` may have besides addresses and localhost, separated by commas: "
        "hearth.example.org, or *.example.org for any below it, or * for any",
    )
    cors_origins: str = Field(
        "",
        description="Origins whose pages may ask besides the gateway's own, separated by commas: "
        "https://app.example.org, or * for any",
    )

    publish: str | None = Field(
        None,
        description="The address on which others reach it, where that is not HEARTH_HOST: that of a published port. "
        "`make up` publishes it there, by default on 127.0.0.1",
    )
    login: Literal["required", "none"] | None = Field(
        None,
        description="Whether clients must say who they are. Unset, they must as soon as there is a key or "
        "HEARTH_JWT_ISSUER is set, and on another address than loopback the gateway asks for a decision",
    )
    key_cache_seconds: float = Field(
        5.0, gt=0, le=60, description="For how long a key that was revoked may still let in; its streams, twice that"
    )
    ticket_seconds: float = Field(30.0, gt=0, le=600, description="For how long a ticket opens a stream")
    jwt_issuer: str | None = Field(None, description="Whose JSON Web Tokens let in: their `iss`")
    jwt_audience: str | None = Field(None, description="The `aud` that tokens must be for")
    jwt_jwks: str | None = Field(None, description="The issuer's key set: a URL or a file")
    jwt_secret: SecretStr | None = Field(
        None, min_length=32, description="In its place, the secret that tokens are signed with (HS256)"
    )
    jwt_tasks_per_minute: int | None = Field(None, ge=1, description="How many tasks a token's subject may start")
    jwt_concurrent_runs: int | None = Field(None, ge=1, description="How many runs of a subject may be going on")
    jwt_tokens_per_day: int | None = Field(None, ge=1, description="How many tokens a subject's runs may use")

    agent_address: str = Field("dns:///127.0.0.1:50052", description="The agent service: dns:///host:port or unix:PATH")
    inference_address: str = Field("dns:///127.0.0.1:50053", description="The inference service, in the same form")
    log_address: str = Field("dns:///127.0.0.1:50054", description="The log service, in the same form")
    storage_address: str = Field(
        "dns:///127.0.0.1:50055", description="The storage service, asked for its health and metrics only"
    )
    worker_addresses: str = Field(
        "",
        description="Workers whose metrics the gateway's /metrics has too, separated by commas; unset, none. "
        "`make run` names all of its own",
    )

    trace_url: str | None = Field(
        None,
        description="Where a person looks at a trace, for the links of runs, such as "
        "https://jaeger.example.org/trace/{trace_id}",
    )
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="The largest request body that is taken")
    max_run_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=24 * 1024 * 1024,
        description="The largest request for a run, with its attachments",
    )
    max_upload_bytes: int = Field(
        50 * 1024 * 1024, ge=1024, description="The largest document that is taken, with the form around it"
    )
    head_timeout_seconds: float = Field(20.0, gt=0, le=3600, description="How long a request's head may take to come")
    body_timeout_seconds: float = Field(60.0, gt=0, le=3600, description="How long a request's body may take to come")
    upload_timeout_seconds: float = Field(600.0, gt=0, description="How long the upload of a document may take")
    max_frame_bytes: int = Field(64 * 1024, ge=1024, description="The largest WebSocket message that is taken")
    max_streams: int = Field(2000, ge=1, description="How many live streams, SSE and WebSocket, are served at a time")
    stream_heartbeat_seconds: float = Field(15.0, gt=0, description="After how long an idle stream carries a heartbeat")
    send_timeout_seconds: float = Field(
        30.0, gt=0, description="How long a WebSocket client may leave a message unread before it is dropped"
    )
    subscribe_timeout_seconds: float = Field(
        30.0, gt=0, description="How long a client of /ws/logs may take to say what it subscribes to"
    )
    stream_idle_seconds: float = Field(
        60.0, gt=0, description="After how long without a word the log service's stream counts as lost"
    )
    stream_resume_seconds: float = Field(
        60.0, gt=0, description="For how long a stream that the log service cut off is resumed before it is given up"
    )
    tool_timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="How long a tool that is tried by hand, or checked, may take in all"
    )
    # More than the 2 s that a service gives each of its probes, so that a probe that hangs is named by its service.
    health_timeout_seconds: float = Field(2.5, gt=0, description="How long a service may take to tell its health")

    @property
    def allowed_host_list(self) -> list[str]:
        """The names in `allowed_hosts`."""
        return _words(self.allowed_hosts)

    @property
    def cors_origin_list(self) -> list[str]:
        """The origins in `cors_origins`."""
        return _words(self.cors_origins)

    @property
    def workers(self) -> dict[str, str]:
        """The addresses in `worker_addresses` by name: `worker`, or `worker-1` and so on where there are several."""
        addresses = _words(self.worker_addresses)
        return {f"worker-{n}" if len(addresses) > 1 else "worker": each for n, each in enumerate(addresses, 1)}

    @property
    def has_jwt(self) -> bool:
        """Whether tokens let in."""
        return self.jwt_issuer is not None

    @property
    def is_login_decided(self) -> bool:
        """Whether it is said who is let in, where others than this machine may ask."""
        return self.login is not None or self.has_jwt or is_loopback(self.publish or self.host)

    @model_validator(mode="after")
    def _are_tokens_whole(self) -> Self:
        parts = (self.jwt_issuer, self.jwt_audience, self.jwt_jwks or self.jwt_secret)
        if any(part is None for part in parts) and any(part is not None for part in parts):
            raise ValueError("HEARTH_JWT_ISSUER, HEARTH_JWT_AUDIENCE and one of HEARTH_JWT_JWKS and HEARTH_JWT_SECRET")
        if self.jwt_jwks is not None and self.jwt_secret is not None:
            raise ValueError("HEARTH_JWT_JWKS and HEARTH_JWT_SECRET are both set: remove one")
        return self

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        for host in _words(value):
            matched = HOST.fullmatch(host.removeprefix("*.") if host != "*" else "any")
            if matched is None or matched["port"] is not None:
                raise ValueError(f"{host!r} is no name of a host, such as hearth.example.org: it takes no port")
        return value

    @field_validator("trace_url")
    @classmethod
    def _is_of_a_trace(cls, value: str | None) -> str | None:
        if value and (TRACE_ID not in value or not value.startswith(("http://", "https://"))):
            raise ValueError(f"it must be an http(s) URL with {TRACE_ID} in it")
        return value or None

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in _words(value):
            if origin != "*" and not is_origin(origin):
                raise ValueError(f"{origin!r} is no origin, such as https://app.example.org: it takes no path")
        return value


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
