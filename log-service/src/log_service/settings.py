"""What log-service needs to know beside what every process does."""

from hearth_runtime.settings import RuntimeSettings
from pydantic import Field


class LogSettings(RuntimeSettings):
    """Where events come from and go to, and how much of them is kept at hand."""

    listen_address: str = Field("127.0.0.1:50054", description="Where this process serves gRPC: host:port or unix:PATH")
    storage_address: str = Field("dns:///127.0.0.1:50055", description="Where storage-service serves gRPC")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis: redis://host:port/db or unix://PATH")
    event_batch: int = Field(500, ge=1, le=5000, description="Events that are read and persisted at once, at most")
    event_claim_seconds: float = Field(
        15.0, gt=0, le=3600, description="When events that another log-service took and never persisted are taken over"
    )
    window_events: int = Field(20_000, ge=10, description="Recent events kept in memory and in Redis")
    window_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="The bytes of those events, at most")
    watermark_seconds: float = Field(
        1.0, gt=0, le=60, description="How often log-service looks how far events are persisted, and trims the stream"
    )
    stream_heartbeat_seconds: float = Field(15.0, gt=0, le=600, description="When an idle stream sends a heartbeat")
    max_streams: int = Field(
        2000, ge=1, description="Streams open at once, at most; those of one gateway that bring the same are one"
    )
