"""The RPCs of tasks: requests to values and back. Only whether a request is valid is decided here."""

from dataclasses import replace
from typing import Any

from hearth.agent.v1 import task_pb2
from hearth.storage.v1 import task_store_pb2, task_store_pb2_grpc
from hearth_runtime.codec import timestamp, to_message
from hearth_runtime.errors import HearthError, InvalidArgument
from hearth_runtime.identifiers import is_id
from hearth_runtime.tasks import RUNS, Task, task_not_found

from storage_service import arguments
from storage_service.attempts import Attempts, Ending, Wanted
from storage_service.checkpoint_rpc import check_checkpoint
from storage_service.queue import Queue
from storage_service.tasks import Created, NewTask, TaskFilter, Tasks

PAGE_LIMIT = 500
DUE_LIMIT = 1000
CREATE_LIMIT = 100
STATES_LIMIT = 500
LEASES_LIMIT = 500


class TaskStoreRpc(task_store_pb2_grpc.TaskStoreServiceServicer):
    """The tables `tasks`, `task_attempts` and `sessions`."""

    def __init__(self, tasks: Tasks, attempts: Attempts, queue: Queue) -> None:
        self._tasks = tasks
        self._attempts = attempts
        self._queue = queue

    async def CreateTasks(self, request: Any, context: Any) -> task_store_pb2.CreateTasksResponse:
        if len(request.tasks) > CREATE_LIMIT:
            raise arguments.invalid("tasks", f"must be at most {CREATE_LIMIT}")
        asked = [_read(task) for task in request.tasks]
        created = iter(await self._tasks.create_all([new for new in asked if isinstance(new, NewTask)]))
        return task_store_pb2.CreateTasksResponse(
            tasks=[_created(next(created) if isinstance(new, NewTask) else new) for new in asked]
        )

    async def GetTask(self, request: Any, context: Any) -> task_store_pb2.GetTaskResponse:
        return task_store_pb2.GetTaskResponse(task=_task(await self._tasks.get(_task_id(request.id))))

    async def GetTaskStates(self, request: Any, context: Any) -> task_store_pb2.GetTaskStatesResponse:
        if len(request.ids) > STATES_LIMIT:
            raise arguments.invalid("ids", f"must be at most {STATES_LIMIT}")
        states = await self._tasks.states(filter(is_id, request.ids))
        return task_store_pb2.GetTaskStatesResponse(
            states=[to_message(state, task_store_pb2.GetTaskStatesResponse.TaskState) for state in states]
        )

    async def ListTasks(self, request: Any, context: Any) -> task_store_pb2.ListTasksResponse:
        where = arguments.value_of(request, TaskFilter)
        if where.agent_id is not None:
            arguments.uuid(where.agent_id, "agent_id")
        if where.parent_task_id is not None:
            arguments.uuid(where.parent_task_id, "parent_task_id")
        arguments.known(where.statuses, "status")
        page = await self._tasks.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT), token=request.page_token, where=where
        )
        return task_store_pb2.ListTasksResponse(
            tasks=[_task(task) for task in page.items], next_page_token=page.next_token
        )

    async def ClaimTask(self, request: Any, context: Any) -> task_store_pb2.ClaimTaskResponse:
        return to_message(await self._attempts.claim(_wanted(request)), task_store_pb2.ClaimTaskResponse)

    async def ExtendLeases(self, request: Any, context: Any) -> task_store_pb2.ExtendLeasesResponse:
        if len(request.attempts) > LEASES_LIMIT:
            raise arguments.invalid("attempts", f"must be at most {LEASES_LIMIT}")
        leases = await self._attempts.extend_leases(
            [(arguments.uuid(one.id, "attempts"), one.attempt) for one in request.attempts],
            arguments.span(request.lease, "lease", positive=True),
        )
        return task_store_pb2.ExtendLeasesResponse(
            leases=[to_message(lease, task_store_pb2.ExtendLeasesResponse.Lease) for lease in leases]
        )

    async def FinishTask(self, request: Any, context: Any) -> task_store_pb2.FinishTaskResponse:
        ending = arguments.value_of(request, Ending)
        if request.HasField("next"):
            ending = replace(ending, next=_wanted(request.next))
        arguments.uuid(ending.id, "id")
        if ending.output is not None:
            arguments.json_object(ending.output, "output")
        for n, one in enumerate(ending.checkpoints):
            check_checkpoint(one, ending.id, f"checkpoints[{n}]")
        if not ending.status.is_final:
            raise arguments.invalid("status", "must be completed, failed or cancelled")
        return to_message(await self._attempts.finish(ending), task_store_pb2.FinishTaskResponse)

    async def ReleaseTask(self, request: Any, context: Any) -> task_store_pb2.ReleaseTaskResponse:
        change = await self._attempts.release(
            arguments.uuid(request.id, "id"),
            request.attempt,
            is_retry=request.is_retry,
            delay=arguments.span(request.delay, "delay"),
            error_code=request.error_code if request.HasField("error_code") else None,
            error_message=request.error_message if request.HasField("error_message") else None,
        )
        return to_message(change, task_store_pb2.ReleaseTaskResponse)

    async def CancelTask(self, request: Any, context: Any) -> task_store_pb2.CancelTaskResponse:
        return to_message(await self._tasks.cancel(_task_id(request.id)), task_store_pb2.CancelTaskResponse)

    async def TakeDueTasks(self, request: Any, context: Any) -> task_store_pb2.TakeDueTasksResponse:
        if not 1 <= request.limit <= DUE_LIMIT:
            raise arguments.invalid("limit", f"must be 1 to {DUE_LIMIT}")
        taken, oldest_ring = await self._queue.take_due(
            queue=_queue(request.queue),
            limit=request.limit,
            ring_again_after=arguments.span(request.ring_again_after, "ring_again_after"),
            delivered_before=arguments.time(request, "delivered_before"),
        )
        return task_store_pb2.TakeDueTasksResponse(
            due_tasks=[to_message(due, task_store_pb2.TakeDueTasksResponse.DueTask) for due in taken],
            oldest_ring_time=timestamp(oldest_ring) if oldest_ring else None,
        )

    async def RetryTask(self, request: Any, context: Any) -> task_store_pb2.RetryTaskResponse:
        task = await self._tasks.retry(
            _task_id(request.id), from_start=request.from_start, repeat_tool_calls=request.repeat_tool_calls
        )
        return task_store_pb2.RetryTaskResponse(task=_task(task))

    async def ListAttempts(self, request: Any, context: Any) -> task_store_pb2.ListAttemptsResponse:
        page = await self._attempts.list(
            _task_id(request.task_id),
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT),
            token=request.page_token,
        )
        return task_store_pb2.ListAttemptsResponse(
            attempts=[to_message(attempt, task_pb2.Attempt) for attempt in page.items], next_page_token=page.next_token
        )

    async def RecordResume(self, request: Any, context: Any) -> task_store_pb2.RecordResumeResponse:
        await self._attempts.record_resume(
            arguments.uuid(request.id, "id"), request.attempt, arguments.name(request.step, "step")
        )
        return task_store_pb2.RecordResumeResponse()

    async def SettleEnds(self, request: Any, context: Any) -> task_store_pb2.SettleEndsResponse:
        if not 1 <= request.limit <= DUE_LIMIT:
            raise arguments.invalid("limit", f"must be 1 to {DUE_LIMIT}")
        unsettled, settled_count = await self._queue.settle_ends(
            limit=request.limit, ended_before=arguments.span(request.ended_before, "ended_before")
        )
        return task_store_pb2.SettleEndsResponse(
            unsettled=[to_message(end, task_store_pb2.SettleEndsResponse.End) for end in unsettled],
            settled_count=settled_count,
        )

    async def ListQueues(self, request: Any, context: Any) -> task_store_pb2.ListQueuesResponse:
        return task_store_pb2.ListQueuesResponse(queues=await self._queue.names())

    async def GetQueueStats(self, request: Any, context: Any) -> task_store_pb2.GetQueueStatsResponse:
        return to_message(await self._queue.stats(), task_store_pb2.GetQueueStatsResponse)


def _task(task: Task) -> task_pb2.Task:
    return to_message(task, task_pb2.Task)


def _wanted(request: task_store_pb2.ClaimTaskRequest) -> Wanted:
    return Wanted(
        worker_id=arguments.name(request.worker_id, "worker_id"),
        lease=arguments.span(request.lease, "lease", positive=True),
        queue=_queue(request.queue),
    )


def _queue(text: str) -> str:
    return arguments.name(text, "queue") if text else RUNS


def _task_id(text: str) -> str:
    if not is_id(text):
        raise task_not_found(text)
    return text


def _read(request: task_store_pb2.CreateTaskRequest) -> NewTask | InvalidArgument:
    try:
        return new_task(request)
    except InvalidArgument as error:
        return error


def _created(created: Created) -> task_store_pb2.CreateTaskResponse:
    if isinstance(created, HearthError):
        return task_store_pb2.CreateTaskResponse(error=created.to_status().SerializeToString())
    task, is_new = created
    # Many outputs might be more than a message may have.
    return task_store_pb2.CreateTaskResponse(task=_task(replace(task, output=None)), created=is_new)


def new_task(request: task_store_pb2.CreateTaskRequest) -> NewTask:
    """The task that the request, or a part of another one, describes."""
    new = arguments.value_of(request, NewTask)
    arguments.uuid(new.id, "id")
    arguments.uuid(new.agent_id, "agent_id")
    arguments.json_object(new.input, "input")
    if new.session_id is not None:
        arguments.uuid(new.session_id, "session_id")
    if new.user is not None:
        arguments.name(new.user, "user")
    if new.idempotency_key is not None:
        arguments.name(new.idempotency_key, "idempotency_key")
    return new
