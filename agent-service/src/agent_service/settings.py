"""Settings of the two processes of agent-service."""

from typing import Annotated

from hearth_runtime.settings import RuntimeSettings
from hearth_runtime.tasks import DOCUMENTS, RUNS
from pydantic import AfterValidator, Field, SecretStr

from agent_service.secret_keys import SecretKeys

QUEUE_NAME = "[a-z][a-z0-9-]{0,39}"


class QueueSettings(RuntimeSettings):
    """What both processes need: the store, the wire and the queues."""

    storage_address: str = Field("dns:///127.0.0.1:50055", description="Where storage-service serves gRPC")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis: redis://host:port/db, rediss://… with TLS, or unix://PATH",
    )
    queues: str = Field(
        f"{RUNS},{DOCUMENTS}",
        pattern=rf"^ *{QUEUE_NAME} *(, *{QUEUE_NAME} *)*$",
        description="Queues, with commas between them. Of the process `api`: those that agents may name in "
        "`config.queue`. Of a worker: those that it serves",
    )
    event_buffer: int = Field(10_000, ge=100, description="Events kept in memory while Redis is away")

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.queues.split(",")))


class ModelSettings(RuntimeSettings):
    """What both processes need of models."""

    inference_address: str = Field("dns:///127.0.0.1:50053", description="Where inference-service serves gRPC")
    embedding_model: str = Field(
        "multilingual-e5-small:latest", min_length=1, description="The model that embeds where an agent names no other"
    )


def _checked(text: SecretStr) -> SecretStr:
    SecretKeys.parse(text.get_secret_value())
    return text


class SecretSettings(RuntimeSettings):
    """What both processes need to keep the secrets of tools."""

    secret_key: Annotated[SecretStr, AfterValidator(_checked)] = Field(
        SecretStr(""),
        description="The key that secrets of tools are encrypted with, 32 bytes in base64: `openssl rand -base64 32`. "
        "Several, separated by commas, are all tried; the first encrypts. Unset, no tool can have secrets",
    )

    @property
    def secret_keys(self) -> SecretKeys:
        """The keys."""
        return SecretKeys.parse(self.secret_key.get_secret_value())


class ExtractionSettings(RuntimeSettings):
    """How much of a document is read, and with how much."""

    document_pages: int = Field(5000, ge=1, description="Pages that a PDF may have")
    document_characters: int = Field(60_000_000, ge=1000, description="Characters that a document's text may have")
    document_memory_mib: int = Field(1024, ge=128, description="Memory that reading one document may take, in MiB")
    document_seconds: int = Field(300, ge=1, description="Processor time that reading one document may take")


class ToolSettings(ExtractionSettings, ModelSettings):
    """What an agent's tools may do, and where."""

    files_home: str = Field(
        "files", min_length=1, description="Where agents with the tool `files` have their directories, one each"
    )
    mcp_commands: dict[str, list[str]] = Field(
        {}, description='MCP servers that agents may start, by name: {"git": ["uvx", "mcp-server-git"]}; unset, none'
    )
    mcp_environment: list[str] = Field(
        [], description='Environment variables that agents may set for these commands: ["GITHUB_TOKEN"]; unset, none'
    )
    private_hosts: list[str] = Field(
        ["*"],
        description='Hosts and networks, not public, that tools of agents may name in `private`: ["10.1.0.0/16", '
        '"wiki.local"]; ["*"] is any, [] none. `make up` and the manifests of Kubernetes set [] unless you name some',
    )
    searxng_url: str = Field("", description="The SearxNG that the tool `web_search` asks; unset, there is none")


class ApiSettings(QueueSettings, ToolSettings, SecretSettings):
    """The process `api`: rules, acceptance, dispatching."""

    listen_address: str = Field("127.0.0.1:50052", description="Where this process serves gRPC: host:port or unix:PATH")
    sweep_seconds: float = Field(1.0, gt=0, le=60, description="How often the dispatcher looks for tasks that are due")
    sweep_limit: int = Field(200, ge=1, le=5000, description="How many due tasks one look takes")
    attachments_concurrency: int = Field(
        2, ge=1, le=64, description="How many files of runs are read at once, each by a process of its own"
    )
    ring_again_seconds: float = Field(2.0, gt=0, description="When a doorbell that no worker answered is rung again")


class WorkerSettings(QueueSettings, ToolSettings, SecretSettings):
    """The process `worker`."""

    listen_address: str = Field("127.0.0.1:50056", description="Where this process serves gRPC: host:port or unix:PATH")
    worker_concurrency: int = Field(
        4, ge=1, le=1024, description="How many runs of each queue a worker has going at once"
    )
    documents_concurrency: int = Field(1, ge=1, le=64, description="How many documents a worker reads beside its runs")
    lease_seconds: float = Field(12.0, ge=1, description="How long a task stays with a worker that is not heard of")
    lease_heartbeat_seconds: float = Field(3.0, gt=0, description="How often a worker extends its leases")
    retry_base_seconds: float = Field(1.0, gt=0, description="The bound of the first retry's delay; it doubles")
    retry_cap_seconds: float = Field(60.0, gt=0, description="The bound that no retry's delay exceeds")
