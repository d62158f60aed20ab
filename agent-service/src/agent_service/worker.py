"""The process `worker`: takes tasks as doorbells ring and runs them."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

from faststream.redis import RedisBroker, StreamSub
from hearth_runtime.channels import open_channel
from hearth_runtime.errors import HearthError, NoTaskWaits
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
from agent_service.prompt import TokenEstimates
from agent_service.publisher import EventPublisher
from agent_service.request_store import StoredRequests
from agent_service.runs import Interruption, Run
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
    """Claims and runs tasks of the queues that it serves, each of which has places of its own."""

    def __init__(
        self,
        *,
        store: StoredTasks,
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
        # Each takes a place of its queue, from the doorbell to the end of the run that it brought.
        self._taken: Counter[str] = Counter()
        self._serving: set[asyncio.Task[None]] = set()
        self._places = {
            queue: settings.documents_concurrency if queue == DOCUMENTS else settings.worker_concurrency
            for queue in settings.queue_names
        }
        lease = timedelta(seconds=settings.lease_seconds)
        self._wanted = {queue: Wanted(worker_id=self.id, lease=lease, queue=queue) for queue in self._places}
        self._changed = asyncio.Event()
        self._stopping = False

    @property
    def queues(self) -> tuple[str, ...]:
        """Those that it serves."""
        return tuple(self._places)

    def listener(self, queue: str) -> Callable[[Doorbell], Awaitable[None]]:
        """What hears the doorbells of a queue: has a task claimed and run, and returns when there is room for another
        one.

        While it has not returned no further doorbell is read, so that one is heard by a worker with room.
        """

        async def heard(doorbell: Doorbell) -> None:
            if not self._stopping:
                self._taken[queue] += 1
                serving = asyncio.create_task(self._serve(doorbell, queue))
                self._serving.add(serving)
                serving.add_done_callback(self._serving.discard)
            while self._is_full(queue) and not self._stopping:
                self._changed.clear()
                await self._changed.wait()

        return heard

    async def on_control(self, cancelled: Doorbell) -> None:
        """Cancels the task's run, if it is here."""
        if cancelled.task_id in self._runs:
            self._runs[cancelled.task_id].interrupt(Interruption.CANCEL)

    async def stop(self) -> None:
        """Takes no more tasks and hands over those that run, as far as `grace_seconds` lets it."""
        self._stopping = True
        self._changed.set()
        for running in self._runs.values():
            running.interrupt(Interruption.HAND_OVER)
        if self._serving:
            await asyncio.wait(self._serving, timeout=self._settings.grace_seconds * 0.8)

    def _is_full(self, queue: str) -> bool:
        return self._taken[queue] >= self._places[queue]

    async def _serve(self, doorbell: Doorbell, queue: str) -> None:
        try:
            claim = await self._claimed(doorbell, queue)
            while claim is not None:
                claim = await self._run(claim)
        finally:
            self._taken[queue] -= 1
            self._changed.set()

    async def _claimed(self, doorbell: Doorbell, queue: str) -> Claim | None:
        # Which task it is, storage decides: agents take turns.
        try:
            with suppress(NoTaskWaits):
                return await self._store.claim(self._wanted[queue])
            logger.debug("nothing to do for a doorbell", task_id=doorbell.task_id)
            # Its task was claimed with another one's end; and so were those of all that rang before a look in vain.
            newest = await self._bell.newest(queue)
            with suppress(NoTaskWaits):
                return await self._store.claim(self._wanted[queue])
            if newest is not None:
                await self._bell.forget(queue, before=newest.after())
        except HearthError as error:
            logger.warning("no task could be claimed; the doorbell rings again", error=error.detail)
        except (RedisError, OSError) as error:
            logger.warning("doorbells could not be looked at", error=repr(error))
        return None

    async def _run(self, claim: Claim) -> Claim | None:
        """Runs the task; gives the one that was claimed with its end. A full worker takes its next task so, without a
        doorbell: docs/adr/0017-a-full-worker-claims-as-it-finishes.md."""
        task = claim.task
        running = Run(
            claim,
            worker_id=self.id,
            store=self._store,
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
            next_wanted=lambda: self._wanted[task.queue] if self._is_full(task.queue) and not self._stopping else None,
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
                return await running.execute()
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
        worker = Worker(
            store=StoredTasks(storage),
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
            await worker.stop()
            await broker.stop()

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(server.run(stopping))
                group.create_task(work())
                group.create_task(summaries.run(stopping))

        await run_with(publisher.drained_after(both()), publisher.run())


async def _listen(broker: RedisBroker, redis: Redis, bell: Bell, worker: Worker, stopping: asyncio.Event) -> None:
    """Subscribes to doorbells and control messages until `stopping` is set; again where Redis lost the group."""
    # Doorbells are not acknowledged: docs/adr/0002-doorbells-are-not-acknowledged.md.
    doorbells = {}
    for queue in worker.queues:
        stream = tasks_stream(queue)
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
        doorbells[stream](worker.listener(queue))
    control = broker.subscriber(CONTROL_CHANNEL)
    control(worker.on_control)

    if not await wait_for_redis(redis, stopping):
        return
    for stream in doorbells:
        await ensure_group(redis, stream, WORKERS_GROUP)
    await broker.start()
    logger.info("waiting for tasks", worker_id=worker.id, queues=worker.queues)
    while True:
        try:
            await bell.announce_worker(worker.id, worker.queues)
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
    # Each takes as long as its read does.
    await asyncio.gather(*(subscriber.stop() for subscriber in doorbells.values()))
    try:
        await bell.dismiss_worker(worker.id, worker.queues)
    except (RedisError, OSError) as error:
        logger.warning("the worker could not be dismissed", error=repr(error))


def main() -> None:
    """Runs the process."""
    settings = load_settings(WorkerSettings)
    run("worker", settings, lambda stopping: serve(settings, stopping))


if __name__ == "__main__":
    main()
