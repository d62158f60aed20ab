"""The process `worker`: takes tasks as doorbells ring and runs them."""

import asyncio
import os
import socket
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

from faststream.redis import RedisBroker, StreamSub
from hearth_runtime.channels import open_channel
from hearth_runtime.identifiers import new_id
from hearth_runtime.lifecycle import pause, run, run_with
from hearth_runtime.principals import Principal, acting_for
from hearth_runtime.redis_streams import (
    CONTROL_CHANNEL,
    connect,
    ensure_group,
    redis_dependency,
    tasks_stream,
    wait_for_redis,
)
from hearth_runtime.server import Server
from hearth_runtime.settings import load_settings
from hearth_runtime.tasks import DOCUMENTS
from loguru import logger
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from agent_service.attempt_spans import attempt_span
from agent_service.bell import WORKERS_GROUP, Bell, Doorbell, broker_of
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.history_store import StoredHistories
from agent_service.inference import Models
from agent_service.leases import Interruption, Leases
from agent_service.prompt import TokenEstimates
from agent_service.publisher import EventPublisher
from agent_service.request_store import StoredRequests
from agent_service.runs import Run
from agent_service.served_queue import ServedQueue
from agent_service.session_store import StoredSessions
from agent_service.settings import WorkerSettings
from agent_service.storage import StoredAgents, StoredTasks
from agent_service.summaries import Summaries
from agent_service.tasks import Claim, Wanted
from agent_service.tool import ToolHost
from agent_service.tool_kinds import ToolKinds
from agent_service.tool_store import StoredTools
from agent_service.toolbox import ToolShelf
from agent_service.workflows import Workflows

POLL_MILLISECONDS = 1000
WATCH_SECONDS = 1.0

ACTIVE_RUNS = Gauge("hearth_worker_runs", "Runs that a worker has going")


class Worker:
    """Runs tasks of its `queues`, each of which has places of its own."""

    def __init__(
        self,
        *,
        store: StoredTasks,
        leases: Leases,
        requests: StoredRequests,
        checkpoints: StoredCheckpoints,
        histories: StoredHistories,
        models: Models,
        estimates: TokenEstimates,
        shelf: ToolShelf,
        publisher: EventPublisher,
        bell: Bell,
        summaries: Summaries,
        host: ToolHost,
        settings: WorkerSettings,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._store = store
        self._leases = leases
        self._requests = requests
        self._checkpoints = checkpoints
        self._histories = histories
        self._models = models
        self._publisher = publisher
        self._bell = bell
        self._summaries = summaries
        self._host = host
        self._settings = settings
        self._workflows = Workflows()
        self._estimates = estimates
        self._shelf = shelf
        self._runs: dict[str, Run] = {}
        self.queues = {
            queue: ServedQueue(
                Wanted(worker_id=self.id, lease=timedelta(seconds=settings.lease_seconds), queue=queue),
                places=settings.documents_concurrency if queue == DOCUMENTS else settings.worker_concurrency,
                store=store,
                bell=bell,
                run=self._run,
            )
            for queue in settings.queue_names
        }
        self._stopping = False

    async def on_control(self, cancelled: Doorbell) -> None:
        """Cancels the task's run, if it is here."""
        if cancelled.task_id in self._runs:
            self._runs[cancelled.task_id].interrupt(Interruption.CANCEL)

    async def stop(self) -> None:
        """Takes no more tasks and hands over those that run, as far as `grace_seconds` lets it."""
        self._stopping = True
        for running in self._runs.values():
            running.interrupt(Interruption.HAND_OVER)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.grace_seconds * 0.8):
                await asyncio.gather(*(queue.stop() for queue in self.queues.values()))

    async def _run(self, claim: Claim) -> None:
        task = claim.task
        queue = self.queues[task.queue]
        running = Run(
            claim,
            worker_id=self.id,
            store=self._store,
            leases=self._leases,
            requests=self._requests,
            checkpoints=self._checkpoints,
            histories=self._histories,
            models=self._models,
            estimates=self._estimates,
            shelf=self._shelf,
            workflows=self._workflows,
            host=self._host,
            publisher=self._publisher,
            bell=self._bell,
            summaries=self._summaries,
            settings=self._settings,
            next_wanted=queue.next_wanted,
            run_next=queue.run_next,
        )
        if self._stopping:  # since it was asked for
            running.interrupt(Interruption.HAND_OVER)
        self._runs[task.id] = running
        ACTIVE_RUNS.set(len(self._runs))
        try:
            with (
                attempt_span(claim),
                logger.contextualize(task_id=task.id, agent_id=task.agent_id),
                # It finds and makes what its owner may see, whoever started it.
                acting_for(Principal(owner=task.owner)),
            ):
                await running.execute()
        finally:
            del self._runs[task.id]
            ACTIVE_RUNS.set(len(self._runs))


async def serve(settings: WorkerSettings, stopping: asyncio.Event) -> None:
    """Runs the process until `stopping` is set."""
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(open_channel("storage", settings.storage_address, settings))
        inference = await stack.enter_async_context(open_channel("inference", settings.inference_address, settings))
        redis = await stack.enter_async_context(connect(settings.redis_url))
        broker = broker_of(settings)
        publisher = EventPublisher(redis, limit=settings.event_buffer)
        bell = Bell(broker, redis)
        models, estimates = Models(inference), TokenEstimates()
        summaries = Summaries(StoredSessions(storage), models, estimates)
        host = ToolHost(settings=settings, storage=storage, inference=inference)
        store = StoredTasks(storage)
        leases = Leases(store, settings)
        worker = Worker(
            store=store,
            leases=leases,
            requests=StoredRequests(storage),
            checkpoints=StoredCheckpoints(storage),
            histories=StoredHistories(storage),
            models=models,
            estimates=estimates,
            shelf=ToolShelf(
                StoredTools(storage, settings.secret_keys),
                StoredAgents(storage),
                ToolKinds(),
                host,
            ),
            publisher=publisher,
            bell=bell,
            summaries=summaries,
            host=host,
            settings=settings,
        )
        server = Server(settings, dependencies=[redis_dependency(redis, required=True)])

        async def work() -> None:
            await _listen(broker, redis, bell, worker, stopping)
            await broker.stop()

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(server.run(stopping))
                group.create_task(work())
                group.create_task(summaries.run(stopping))

        await run_with(publisher.drained_after(both()), publisher.run(), leases.run())


async def _listen(broker: RedisBroker, redis: Redis, bell: Bell, worker: Worker, stopping: asyncio.Event) -> None:
    """Subscribes to doorbells and control messages until `stopping` is set, again where Redis lost the group; then
    stops the worker."""
    # Doorbells are not acknowledged: docs/adr/0002-doorbells-are-not-acknowledged.md.
    doorbells = {}
    for name, queue in worker.queues.items():
        stream = tasks_stream(name)
        doorbells[stream] = broker.subscriber(
            stream=StreamSub(
                stream,
                group=WORKERS_GROUP,
                consumer=worker.id,
                no_ack=True,
                max_records=1,
                polling_interval=POLL_MILLISECONDS,
            )
        )
        doorbells[stream](queue.hear)
    control = broker.subscriber(CONTROL_CHANNEL)
    control(worker.on_control)

    if not await wait_for_redis(redis, stopping):
        return
    for stream in doorbells:
        await ensure_group(redis, stream, WORKERS_GROUP)
    await broker.start()
    logger.info("waiting for tasks", worker_id=worker.id, queues=tuple(worker.queues))
    while True:
        try:
            await bell.announce_worker(worker.id, tuple(worker.queues))
            # FastStream stops a subscriber whose group is gone, as after a FLUSHALL.
            for stream, subscriber in doorbells.items():
                if not subscriber.running:
                    await ensure_group(redis, stream, WORKERS_GROUP)
                    await subscriber.start()
                    logger.warning("the consumer group was lost and is there again", stream=stream)
        except (RedisError, OSError) as error:
            logger.warning("waiting for Redis", error=repr(error))
        if await pause(stopping, WATCH_SECONDS):
            break
    # Each subscriber takes as long as its read does, since a worker that stops keeps none waiting.
    await asyncio.gather(worker.stop(), *(subscriber.stop() for subscriber in doorbells.values()))
    try:
        await bell.dismiss_worker(worker.id, tuple(worker.queues))
    except (RedisError, OSError) as error:
        logger.warning("the worker could not be dismissed", error=repr(error))


def main() -> None:
    """Runs the process."""
    settings = load_settings(WorkerSettings)
    run("worker", settings, lambda stopping: serve(settings, stopping))


if __name__ == "__main__":
    main()
