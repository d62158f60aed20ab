"""What storage-service needs to know beside what every process does."""

from hearth_runtime.settings import RuntimeSettings
from pydantic import Field


class StorageSettings(RuntimeSettings):
    """Where PostgreSQL is and how much of it one process uses."""

    listen_address: str = Field("127.0.0.1:50055", description="Where this process serves gRPC: host:port or unix:PATH")
    database_url: str = Field(
        "postgresql://hearth@127.0.0.1:5432/hearth",
        description="PostgreSQL, as a URL: postgresql://user:password@host:port/name, or ?host=FOLDER for a socket",
    )
    database_pool_size: int = Field(10, ge=1, le=200, description="Connections to PostgreSQL at most, per process")
    database_call_seconds: float = Field(
        8.0, gt=0, le=600, description="How long one call may use PostgreSQL; below HEARTH_RPC_TIMEOUT_SECONDS"
    )
    database_metrics_seconds: float = Field(
        5.0, gt=0, le=3600, description="How often the figures of the task queue are read for /metrics"
    )
    vector_index_mib: int = Field(
        256, ge=1, le=65536, description="Memory that PostgreSQL may use to build an index of vectors, in MiB"
    )
    memory_limit: int = Field(
        1000, ge=1, le=100_000, description="Facts that are kept for one user, session or agent, history among them"
    )
    memory_duplicate_similarity: float = Field(
        0.97,
        gt=0,
        le=1,
        description="From which cosine similarity on two facts are one, if names, numbers and negations agree",
    )
    queue_limit: int = Field(100_000, ge=1, description="Tasks that may wait in all; more are answered with 429")
    queue_limit_per_agent: int = Field(20_000, ge=1, description="Tasks of one agent that may wait")
    task_depth_limit: int = Field(3, ge=0, le=32, description="How many levels of sub-tasks a task may have below it")
    sub_task_limit: int = Field(16, ge=0, le=1000, description="How many sub-tasks one task may start")
    checkpoint_retention_days: float = Field(
        7.0,
        gt=0,
        le=3650,
        description="How long the checkpoints and tool calls of a task that has ended are kept. Until then it can be "
        "forked, replayed and, where it failed, started again after its last step",
    )
    checkpoint_retention_sweep_seconds: float = Field(
        60.0, gt=0, le=86400, description="How often those that are kept no longer are deleted"
    )
    retention_days: float | None = Field(
        None,
        gt=0,
        le=36500,
        description="After how many days a task that has ended is deleted with its events and all else that belongs to "
        "it; unset, never",
    )
    retention_sweep_seconds: float = Field(60.0, gt=0, le=86400, description="How often such tasks are looked for")
    audit_retention_days: float = Field(
        90.0, gt=0, le=36500, description="For how many days it is kept what was done with keys"
    )
    migrate_wait_seconds: float = Field(
        60.0, gt=0, le=3600, description="How long a migration waits for PostgreSQL, or for another migration"
    )
