"""What an operator sees of the tasks: gauges that are read from PostgreSQL now and then."""

import asyncio
import time

from hearth_runtime.errors import Unavailable
from hearth_runtime.lifecycle import pause
from hearth_runtime.tasks import DOCUMENTS, RUNS, TaskStatus
from loguru import logger
from opentelemetry.instrumentation.utils import suppress_instrumentation
from prometheus_client import Gauge

from storage_service.queue import Queue, QueueDepth

TASKS = Gauge("hearth_tasks", "Tasks, by status", ["status"])
QUEUE_OLDEST_SECONDS = Gauge(
    "hearth_queue_oldest_seconds", "How long the task that is due the longest has waited, by queue", ["queue"]
)
QUEUE_PENDING = Gauge("hearth_queue_pending", "Tasks that wait for a worker, by queue", ["queue"])

# Counting the ended tasks reads an index from end to end, so it may take at most this part of the time.
COUNTING_SHARE = 0.01


async def keep_current(queue: Queue, every_seconds: float, stopping: asyncio.Event) -> None:
    """Reads the figures until told to stop. It also tells the log when PostgreSQL goes away and comes back."""
    away = False
    known = {RUNS, DOCUMENTS}
    next_count = 0.0
    while not stopping.is_set():
        try:
            # Nobody's request caused these statements, so they belong into no trace.
            with suppress_instrumentation():
                started = time.monotonic()
                if started >= next_count:
                    for status, count in (await queue.count_by_status()).items():
                        TASKS.labels(status).set(count)
                    next_count = started + (time.monotonic() - started) / COUNTING_SHARE
                stats, depths = await queue.stats(), await queue.depths()
        except Unavailable as error:
            if not away:
                logger.warning("waiting for PostgreSQL", reason=error.detail)
            away = True
        else:
            if away:
                logger.info("PostgreSQL answers again")
            away = False
            TASKS.labels(TaskStatus.PENDING).set(stats.pending)
            TASKS.labels(TaskStatus.RUNNING).set(stats.running)
            TASKS.labels(TaskStatus.WAITING).set(stats.waiting)
            known |= _show(depths, known)
        await pause(stopping, every_seconds)


def _show(depths: tuple[QueueDepth, ...], known: set[str]) -> set[str]:
    """Sets the gauges of the queues; one that was known and in which nothing waits any more goes to 0."""
    waiting = {depth.queue: depth for depth in depths}
    for name in known | waiting.keys():
        depth = waiting.get(name)
        QUEUE_OLDEST_SECONDS.labels(name).set(0 if depth is None else depth.oldest_seconds)
        QUEUE_PENDING.labels(name).set(0 if depth is None else depth.pending)
    return set(waiting)
