"""Time travel: what the steps of a run left behind, and runs that are made from it."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Response
from hearth.agent.v1 import history_service_pb2
from hearth_runtime.identifiers import new_id

from gateway import examples, history_examples
from gateway.dependencies import LinksDep, ServicesDep
from gateway.documentation import (
    AGENT_INACTIVE,
    BAD_CHECKPOINT_LIMIT,
    BAD_FORK,
    BAD_TASK_ID,
    BODY_ERRORS,
    CHECKPOINT_NOT_FOUND,
    HISTORY_EXPIRED,
    IDEMPOTENCY_CONFLICT,
    QUEUE_FULL,
    QUOTA_EXCEEDED,
    TASK_NOT_FOUND,
    TASK_NOT_REPLAYABLE,
    answers,
)
from gateway.history_translation import checkpoint_of
from gateway.route import Route
from gateway.routes.parameters import Cursor, TaskId
from gateway.schemas.histories import CheckpointPage, ForkTaskRequest
from gateway.schemas.tasks import RunAccepted
from gateway.translation import accepted_of

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"], route_class=Route)

CheckpointLimit = Annotated[int, Query(ge=1, le=100, description="How many items a page has at most")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="A key of your choosing that makes repeating the call harmless. 1 to 255 visible ASCII characters",
        examples=["5f2a7c1e"],
    ),
]


@router.get(
    "/{task_id}/checkpoints",
    operation_id="list_checkpoints",
    summary="List a task's checkpoints",
    responses=answers(
        200, history_examples.CHECKPOINT_PAGE, TASK_NOT_FOUND, HISTORY_EXPIRED, BAD_TASK_ID, BAD_CHECKPOINT_LIMIT
    ),
)
async def list_checkpoints(
    services: ServicesDep, task_id: TaskId, limit: CheckpointLimit = 50, cursor: Cursor = None
) -> CheckpointPage:
    """Pages through what the steps of a run left behind, the first one first: the state, which steps it came of, and
    which follow.
    """
    answer = await services.histories.ListCheckpoints(
        history_service_pb2.ListCheckpointsRequest(task_id=task_id, page_size=limit, page_token=cursor or "")
    )
    return CheckpointPage(
        items=[checkpoint_of(c) for c in answer.checkpoints], next_cursor=answer.next_page_token or None
    )


@router.post(
    "/{task_id}/fork",
    operation_id="fork_task",
    summary="Fork a task",
    status_code=202,
    responses=answers(
        202,
        examples.RUN_ACCEPTED,
        *BODY_ERRORS,
        TASK_NOT_FOUND,
        CHECKPOINT_NOT_FOUND,
        AGENT_INACTIVE,
        TASK_NOT_REPLAYABLE,
        IDEMPOTENCY_CONFLICT,
        HISTORY_EXPIRED,
        BAD_FORK,
        QUEUE_FULL,
        QUOTA_EXCEEDED,
        location="Where the new task's state is",
    ),
)
async def fork_task(
    *,
    services: ServicesDep,
    links: LinksDep,
    response: Response,
    task_id: TaskId,
    fork: Annotated[
        ForkTaskRequest | None,
        Body(
            openapi_examples={
                "from a step": {"value": history_examples.FORK},
                "from the start": {"value": history_examples.FORK_FROM_START},
            }
        ),
    ] = None,
    idempotency_key: IdempotencyKey = None,
) -> RunAccepted:
    """Starts a task that begins as a copy of this one up to a checkpoint, and goes on from there by itself: with
    another state, another input, or answers that you give in the place of a model's or a tool's. It has no session,
    and its agent is as it is now. The task that is forked may still be running.
    """
    asked = fork or ForkTaskRequest()
    given = asked.model_fields_set
    answer = await services.histories.ForkTask(
        history_service_pb2.ForkTaskRequest(
            task_id=task_id,
            checkpoint_id=asked.checkpoint_id if "checkpoint_id" in given else None,
            step=asked.step if "step" in given else None,
            state=_json(asked.state) if "state" in given else None,
            input=None if asked.input is None else asked.input.model_dump_json(exclude_unset=True),
            answers=_json(asked.answers),
            # With a key of ours the call can be repeated when agent-service restarts under it.
            idempotency_key=idempotency_key or new_id(),
        )
    )
    accepted = accepted_of(answer.task, links)
    response.headers["Location"] = accepted.links.status
    return accepted


@router.post(
    "/{task_id}/replay",
    operation_id="replay_task",
    summary="Replay a task",
    status_code=202,
    responses=answers(
        202,
        examples.RUN_ACCEPTED,
        TASK_NOT_FOUND,
        TASK_NOT_REPLAYABLE,
        IDEMPOTENCY_CONFLICT,
        HISTORY_EXPIRED,
        BAD_TASK_ID,
        QUEUE_FULL,
        QUOTA_EXCEEDED,
        location="Where the new task's state is",
    ),
)
async def replay_task(
    services: ServicesDep, links: LinksDep, response: Response, task_id: TaskId, idempotency_key: IdempotencyKey = None
) -> RunAccepted:
    """Starts a task that does again what this one, which has completed or failed, did: with its agent as it was, and
    with what models and tools answered then. Nobody is asked anything. It stops at the first difference, which its
    output has under `replay`: `{"identical": false, "first_difference": {"kind", "call", "part", "then", "now"}}`.
    """
    answer = await services.histories.ReplayTask(
        history_service_pb2.ReplayTaskRequest(task_id=task_id, idempotency_key=idempotency_key or new_id())
    )
    accepted = accepted_of(answer.task, links)
    response.headers["Location"] = accepted.links.status
    return accepted


def _json(value: dict[str, Any]) -> str:
    # Not by orjson, which knows no integer beyond 64 bits, though JSON does.
    return json.dumps(value, ensure_ascii=False)
