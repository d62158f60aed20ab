"""The process `worker`: takes tasks as doorbells ring and runs them."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from contextvars import Context, copy_context
from datetime import timedelta
from functools import partial
from typing import Any

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
        self._context = copy_context()
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
            if self._stopping:
                await self._bell.ring(doorbell.task_id, queue=queue)  # for another one
            else:
                self._take_place(queue, self._answer(doorbell, queue))
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
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.grace_seconds * 0.8):
                while self._serving:  # a claim that was asked for before may bring another one
                    await asyncio.wait(self._serving)

    def _is_full(self, queue: str) -> bool:
        return self._taken[queue] >= self._places[queue]

    def _take_place(self, queue: str, serving: Coroutine[Any, Any, None], *, context: Context | None = None) -> None:
        """Has a place of the queue taken for as long as `serving` takes."""
        self._taken[queue] += 1
        task = asyncio.create_task(serving, context=context)
        self._serving.add(task)
        task.add_done_callback(partial(self._leave_place, queue))

    def _leave_place(self, queue: str, served: asyncio.Task[None]) -> None:
        self._serving.discard(served)
        self._taken[queue] -= 1
        self._changed.set()

    async def _answer(self, doorbell: Doorbell, queue: str) -> None:
        claim = await self._claimed(doorbell, queue)
        if claim is not None:
            await self._run(claim)

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

    def _next_wanted(self, queue: str) -> Wanted | None:
        """What to claim with the end of a run: docs/adr/0017-a-full-worker-claims-as-it-finishes.md."""
        return self._wanted[queue] if self._is_full(queue) and not self._stopping else None

    def _run_next(self, claim: Claim) -> None:
        # Not in the context of the run that is ending here.
        self._take_place(claim.task.queue, self._run(claim), context=self._context.copy())

    async def _run(self, claim: Claim) -> None:
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
            next_wanted=lambda: self._next_wanted(task.queue),
            run_next=self._run_next,
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
            await broker.stop()

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(server.run(stopping))
                group.create_task(work())
                group.create_task(summaries.run(stopping))

        await run_with(publisher.drained_after(both()), publisher.run())


async def _listen(broker: RedisBroker, redis: Redis, bell: Bell, worker: Worker, stopping: asyncio.Event) -> None:
    """Subscribes to doorbells and control messages until `stopping` is set, again where Redis lost the group; then
    stops the worker."""
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
    # Each subscriber takes as long as its read does, since a worker that stops keeps none waiting.
    await asyncio.gather(worker.stop(), *(subscriber.stop() for subscriber in doorbells.values()))
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
