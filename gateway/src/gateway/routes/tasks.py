"""Tasks: the runs of agents."""

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from hearth.agent.v1 import task_service_pb2
from hearth.log.v1 import log_service_pb2
from hearth_runtime.codec import timestamp
from hearth_runtime.events import EventLevel

from gateway import examples
from gateway.dependencies import LinksDep, ServicesDep
from gateway.documentation import (
    AGENT_INACTIVE,
    ALREADY_ANSWERED,
    BAD_LIMIT,
    BAD_RESULT,
    BAD_RETRY,
    BAD_TASK_ID,
    BODY_ERRORS,
    QUEUE_FULL,
    QUOTA_EXCEEDED,
    TASK_FINISHED,
    TASK_NOT_FOUND,
    TASK_NOT_RETRYABLE,
    TASK_NOT_WAITING,
    TOOL_CALL_UNFINISHED,
    answers,
)
from gateway.route import Route
from gateway.routes.parameters import ContainsQuery, Cursor, Descending, Limit, Since, Statuses, TaskId, Until
from gateway.schemas.fields import Id, Level, Time
from gateway.schemas.logs import LogPage
from gateway.schemas.requests import ResumeRequest
from gateway.schemas.tasks import AttemptPage, RetryRequest, RunAccepted, Task, TaskCancelled, TaskPage
from gateway.translation import (
    STATUS_NAMES,
    STATUSES,
    accepted_of,
    answer_of,
    attempt_of,
    event_filter,
    log_of,
    task_of,
)

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"], route_class=Route)


@router.get(
    "",
    operation_id="list_tasks",
    summary="List tasks",
    response_model_exclude_unset=True,
    responses=answers(200, examples.TASK_PAGE, BAD_LIMIT),
)
async def list_tasks(
    *,
    services: ServicesDep,
    links: LinksDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    agent_id: Annotated[Id | None, Query(description="Only runs of this agent")] = None,
    status: Statuses = None,
    created_after: Annotated[Time | None, Query(description="Only what was accepted at this time or later")] = None,
    created_before: Annotated[Time | None, Query(description="Only what was accepted before this time")] = None,
    parent_task_id: Annotated[Id | None, Query(description="Only sub-tasks of this run")] = None,
) -> TaskPage:
    """Pages through the tasks, the newest first."""
    answer = await services.tasks.ListTasks(
        task_service_pb2.ListTasksRequest(
            page_size=limit,
            page_token=cursor or "",
            agent_id=agent_id,
            statuses=[STATUSES[s] for s in status or ()],
            created_after=None if created_after is None else timestamp(created_after),
            created_before=None if created_before is None else timestamp(created_before),
            parent_task_id=parent_task_id,
        )
    )
    return TaskPage(items=[task_of(t, links) for t in answer.tasks], next_cursor=answer.next_page_token or None)


@router.get(
    "/{task_id}/status",
    operation_id="get_task",
    summary="Read a task",
    response_model_exclude_unset=True,
    responses=answers(200, examples.TASK, TASK_NOT_FOUND, BAD_TASK_ID),
)
async def get_task(services: ServicesDep, links: LinksDep, task_id: TaskId) -> Task:
    """Reads one task: its state, and once it has ended what it gave, or why it failed."""
    answer = await services.tasks.GetTask(task_service_pb2.GetTaskRequest(id=task_id))
    return task_of(answer.task, links)


@router.get(
    "/{task_id}/logs",
    operation_id="list_task_logs",
    summary="List a task's events",
    responses=answers(200, examples.LOG_PAGE, TASK_NOT_FOUND, BAD_TASK_ID, BAD_LIMIT),
)
async def list_task_logs(
    *,
    services: ServicesDep,
    task_id: TaskId,
    limit: Limit = 50,
    cursor: Cursor = None,
    level: Annotated[Level | None, Query(description="This level and the worse ones")] = None,
    since: Since = None,
    until: Until = None,
    contains: ContainsQuery = None,
    descending: Descending = False,
) -> LogPage:
    """Pages through what is kept of the task's events, in their order."""
    levels = None if level is None else EventLevel(level).and_worse()
    answer = await services.logs.ListEvents(
        log_service_pb2.ListEventsRequest(
            page_size=limit,
            page_token=cursor or "",
            filter=event_filter(task_ids=[task_id], levels=levels, since=since, until=until, contains=contains),
            descending=descending,
        )
    )
    if not answer.events:
        # The log service knows events, not tasks: an empty page and an unknown task look alike to it.
        await services.tasks.GetTask(task_service_pb2.GetTaskRequest(id=task_id))
    return LogPage(items=[log_of(e) for e in answer.events], next_cursor=answer.next_page_token or None)


@router.get(
    "/{task_id}/attempts",
    operation_id="list_attempts",
    summary="List a task's attempts",
    response_model_exclude_unset=True,
    responses=answers(200, examples.ATTEMPT_PAGE, TASK_NOT_FOUND, BAD_TASK_ID, BAD_LIMIT),
)
async def list_attempts(
    services: ServicesDep, task_id: TaskId, limit: Limit = 50, cursor: Cursor = None
) -> AttemptPage:
    """Pages through the attempts at a run, the first one first: who ran it, when, how that ended and why."""
    answer = await services.tasks.ListAttempts(
        task_service_pb2.ListAttemptsRequest(task_id=task_id, page_size=limit, page_token=cursor or "")
    )
    return AttemptPage(items=[attempt_of(a) for a in answer.attempts], next_cursor=answer.next_page_token or None)


@router.post(
    "/{task_id}/retry",
    operation_id="retry_task",
    summary="Start a task again",
    status_code=202,
    responses=answers(
        202,
        examples.RUN_ACCEPTED,
        *BODY_ERRORS,
        TASK_NOT_FOUND,
        TASK_NOT_RETRYABLE,
        TOOL_CALL_UNFINISHED,
        AGENT_INACTIVE,
        QUEUE_FULL,
        QUOTA_EXCEEDED,
        BAD_RETRY,
        location="Where the task's state is",
    ),
)
async def retry_task(
    services: ServicesDep,
    links: LinksDep,
    response: Response,
    task_id: TaskId,
    retry: Annotated[
        RetryRequest | None, Body(openapi_examples={"from the start": {"value": examples.RETRY_FROM_START}})
    ] = None,
) -> RunAccepted:
    """Starts a run that failed or was cancelled again, with all its retries: after the last step that it finished, or
    from the beginning. Its events go on in the same stream.
    """
    asked = retry or RetryRequest()
    answer = await services.tasks.RetryTask(
        task_service_pb2.RetryTaskRequest(
            id=task_id, from_start=asked.start == "start", repeat_tool_calls=asked.repeat_tool_calls
        )
    )
    accepted = accepted_of(answer.task, links)
    response.headers["Location"] = accepted.links.status
    return accepted


@router.post(
    "/{task_id}/resume",
    operation_id="resume_task",
    summary="Answer what a task waits for",
    status_code=202,
    responses=answers(
        202,
        examples.RUN_ACCEPTED,
        *BODY_ERRORS,
        TASK_NOT_FOUND,
        TASK_NOT_WAITING,
        ALREADY_ANSWERED,
        BAD_RESULT,
        location="Where the task's state is",
    ),
)
async def resume_task(
    services: ServicesDep,
    links: LinksDep,
    response: Response,
    task_id: TaskId,
    answered: Annotated[
        ResumeRequest,
        Body(
            openapi_examples={
                "tool": {"summary": "What a client tool gave", "value": examples.RESUME_TOOL_CALL},
                "approve": {"summary": "A call approved with other arguments", "value": examples.RESUME_APPROVE},
                "reject": {"summary": "A call rejected", "value": examples.RESUME_REJECT},
                "answer": {"summary": "A question answered", "value": examples.RESUME_ANSWER},
            }
        ),
    ],
) -> RunAccepted:
    """Answers some or all of what a `waiting` run waits for, which is in its `pending`. It goes on when nothing is open
    any more, and is `waiting` until then. The first answer counts: the same one again is harmless, another one is 409.
    """
    answer = await services.tasks.ResumeTask(
        task_service_pb2.ResumeTaskRequest(id=task_id, answers=[answer_of(result) for result in answered.results])
    )
    accepted = accepted_of(answer.task, links)
    response.headers["Location"] = accepted.links.status
    return accepted


@router.delete(
    "/{task_id}",
    operation_id="cancel_task",
    summary="Cancel a task",
    status_code=202,
    responses=answers(202, examples.TASK_CANCELLED, TASK_NOT_FOUND, TASK_FINISHED, BAD_TASK_ID),
)
async def cancel_task(services: ServicesDep, task_id: TaskId) -> TaskCancelled:
    """Cancels a task, and its sub-tasks with it. One that is queued or waits ends at once; a running one stops
    generating within a second, and until then its state is `running`. Repeating it is harmless until it has ended.
    """
    answer = await services.tasks.CancelTask(task_service_pb2.CancelTaskRequest(id=task_id))
    return TaskCancelled(task_id=answer.task.id, status=STATUS_NAMES[answer.task.status])
