"""Settings of inference-service."""

from urllib.parse import urlsplit

from hearth_runtime.settings import RuntimeSettings
from pydantic import AliasChoices, Field, field_validator


class InferenceSettings(RuntimeSettings):
    """Where models are, and how patient to be with them."""

    listen_address: str = Field("127.0.0.1:50053", description="Where this process serves gRPC: host:port or unix:PATH")
    ollama_url: str = Field(
        "http://127.0.0.1:11434",
        validation_alias=AliasChoices("OLLAMA_URL", "ollama_url"),
        description="Ollama: http(s)://host:port or unix:PATH; several hosts with commas between them",
    )
    model_concurrency: int = Field(4, ge=1, le=1024, description="Requests at once per model host")
    model_queue: int = Field(256, ge=0, description="Requests that may wait per model host")
    model_attempts: int = Field(3, ge=1, le=10, description="How often a request is tried before its first token")
    model_backoff_seconds: float = Field(
        0.2, ge=0, description="The bound of the first delay between tries; it doubles"
    )
    model_connect_seconds: float = Field(5.0, gt=0, description="How long connecting to a model host may take")
    model_first_token_seconds: float = Field(
        180.0, gt=0, description="How long until the first token: a model may load"
    )
    model_between_tokens_seconds: float = Field(30.0, gt=0, description="How long from one token to the next")
    model_loading_notice_seconds: float = Field(
        3.0, gt=0, description="After how long without a first token its caller is told that the model may be loading"
    )
    model_answer_seconds: float = Field(
        3600.0, gt=0, description="How long a whole answer may take, where its caller gives no shorter deadline"
    )
    model_output_characters: int = Field(1_000_000, ge=1, description="An answer that is longer is cut off there")
    model_schema_seconds: float = Field(2.0, gt=0, description="How long checking an answer by its schema may take")
    model_breaker_failures: int = Field(
        5, ge=1, description="After how many failures in a row a model host is given no more requests"
    )
    model_breaker_first_seconds: float = Field(
        2.0, gt=0, description="The bound of the time until such a host is probed; it doubles with each probe"
    )
    model_breaker_max_seconds: float = Field(60.0, gt=0, description="What that bound grows to at most")
    model_list_seconds: float = Field(5.0, ge=0, description="How long a host's list of models is remembered")

    @field_validator("ollama_url")
    @classmethod
    def _addresses(cls, value: str) -> str:
        urls = split_urls(value)
        if not urls:
            raise ValueError("names no host: give http://host:port or unix:PATH")
        for url in urls:
            if url.startswith("unix:"):
                good = len(url) > len("unix:")
            else:
                parts = urlsplit(url if "://" in url else f"http://{url}")
                good = parts.scheme in ("http", "https") and bool(parts.hostname)
                _ = parts.port  # raises ValueError where it is no number
            if not good:
                raise ValueError("each host is http(s)://host:port or unix:PATH, with commas between them")
        return value


def split_urls(value: str) -> list[str]:
    """The hosts that OLLAMA_URL names, each once."""
    return list(dict.fromkeys(url.strip() for url in value.split(",") if url.strip()))
