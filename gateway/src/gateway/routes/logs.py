"""Logs: what happens in runs, live and of the past."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from hearth.log.v1 import log_service_pb2
from hearth_runtime.errors import FieldViolation
from pydantic import BeforeValidator
from starlette.responses import Response

from gateway import examples
from gateway.dependencies import GatewayDep, ServicesDep
from gateway.documentation import (
    BAD_LIMIT,
    BAD_TASK_ID,
    DEADLINE_EXCEEDED,
    INTERNAL,
    TASK_NOT_FOUND,
    TOO_MANY_STREAMS,
    UNAVAILABLE,
    answers,
    problems,
)
from gateway.errors import invalid_request
from gateway.route import CONTEXT_PARAMETER, CONTEXT_PREFIX, Route
from gateway.routes.parameters import (
    AgentIds,
    ContainsQuery,
    Cursor,
    Descending,
    Kinds,
    Levels,
    Limit,
    Since,
    TaskId,
    TaskIds,
    Until,
)
from gateway.schemas.fields import CONTEXT_NAME, CONTEXT_VALUE, MAX_CONTEXT_FIELDS, EventId
from gateway.schemas.logs import LogPage
from gateway.sse import MEDIA_TYPE, SseResponse
from gateway.translation import event_filter, log_of

router = APIRouter(prefix="/api/v1/logs", tags=["logs"], route_class=Route)

BAD_EVENT_ID = invalid_request(
    [FieldViolation(field="last-event-id", message="'7' is no event id: it has the form 1764000000000-0")]
)
BAD_KIND = invalid_request([FieldViolation(field="kinds[0]", message="Input should be 'status', 'log' or …")])


# As OpenAPI 3.2 describes an event, and FastAPI its own.
SENT_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "The event's id; `end` and `error` have none"},
        "event": {"type": "string", "description": "The event's kind, or `end`, or `error`"},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "retry": {"type": "integer"},
    },
}


def _empty_is_none(value: object) -> object:
    # What an EventSource sends that has seen no id.
    return None if value == "" else value


@router.get(
    "/stream/{task_id}",
    operation_id="stream_task",
    summary="Watch a task",
    # Not SseResponse: FastAPI would have the whole stream be one string.
    response_class=Response,
    status_code=200,
    responses={
        200: {
            "description": "Server-sent events, to the `end` of the task",
            "content": {MEDIA_TYPE: {"itemSchema": SENT_EVENT, "example": examples.STREAM}},
        },
        **problems(
            TASK_NOT_FOUND,
            BAD_TASK_ID,
            BAD_EVENT_ID,
            BAD_KIND,
            TOO_MANY_STREAMS,
            INTERNAL,
            UNAVAILABLE,
            DEADLINE_EXCEEDED,
        ),
    },
)
async def stream_task(
    *,
    gateway: GatewayDep,
    request: Request,
    task_id: TaskId,
    kinds: Kinds = None,
    last_event_id: Annotated[
        EventId | None,
        BeforeValidator(_empty_is_none),
        Header(description="The last event that was seen: the stream goes on after it"),
    ] = None,
    last_event_id_query: Annotated[
        EventId | None,
        BeforeValidator(_empty_is_none),
        Query(alias="last_event_id", description="The same, where no header can be set; the header counts first"),
    ] = None,
    _: Annotated[
        str | None, Query(alias="ticket", description="What POST /api/v1/tickets made, where no header can be set")
    ] = None,
) -> Response:
    """Streams the task's events, token deltas included, from its first one or after `Last-Event-ID`, each once and in
    order. `id:` is the event's id, `event:` its kind, `data:` the event as JSON. After the last one comes
    `event: end` with the task's final status, and the stream closes: close your `EventSource` then, or it connects
    again. An idle stream carries comments. If Hearth's own log service stays away for a minute, `event: error` carries
    the problem before the stream closes; connect again to resume.
    """
    stream = await gateway.streams.open(
        "sse",
        events=event_filter(task_ids=[task_id], kinds=kinds),
        after=last_event_id or last_event_id_query,
        until_end=True,
    )
    return SseResponse(stream, gateway.streams, gateway.settings, task_id=task_id, instance=request.url.path)


@router.get(
    "/history",
    operation_id="list_logs",
    summary="Search events",
    responses=answers(200, examples.LOG_PAGE, BAD_LIMIT),
)
async def list_logs(
    *,
    services: ServicesDep,
    request: Request,
    limit: Limit = 50,
    cursor: Cursor = None,
    task_id: TaskIds = None,
    agent_id: AgentIds = None,
    level: Levels = None,
    kind: Kinds = None,
    since: Since = None,
    until: Until = None,
    contains: ContainsQuery = None,
    descending: Descending = False,
    _: Annotated[
        str | None,
        Query(
            alias=CONTEXT_PARAMETER,
            description="Stands for any parameter `context.NAME`: the field NAME of the event's context has this value",
            examples=["web_search"],
        ),
    ] = None,
) -> LogPage:
    """Pages through what is kept of all events, in their order. An event is there if it matches each filter that is
    given, and any value of one that has several. `context.tool=web_search` matches `{"tool": "web_search"}`.

    Of what the other filters leave, a page looks at 10,000 events for a text, kinds and context. Where few match, it
    has fewer than `limit` or none; go on with `next_cursor` until it is null.
    """
    answer = await services.logs.ListEvents(
        log_service_pb2.ListEventsRequest(
            page_size=limit,
            page_token=cursor or "",
            filter=event_filter(
                task_ids=task_id,
                agent_ids=agent_id,
                levels=level,
                kinds=kind,
                contains=contains,
                since=since,
                until=until,
                context=_context(request),
            ),
            descending=descending,
        )
    )
    return LogPage(items=[log_of(e) for e in answer.events], next_cursor=answer.next_page_token or None)


def _context(request: Request) -> dict[str, str]:
    """The parameters `context.NAME` by their names."""
    context: dict[str, str] = {}
    wrong: list[FieldViolation] = []
    for parameter, value in request.query_params.multi_items():
        if not parameter.startswith(CONTEXT_PREFIX):
            continue
        name = parameter.removeprefix(CONTEXT_PREFIX)
        if name in context:
            wrong.append(FieldViolation(field=parameter, message="is given twice"))
        elif not CONTEXT_NAME.fullmatch(name) or not CONTEXT_VALUE.fullmatch(value):
            message = "has no name, one of more than 100 or a value of more than 1000 characters, or a NUL character"
            wrong.append(FieldViolation(field=parameter, message=message))
        context[name] = value
    if len(context) > MAX_CONTEXT_FIELDS:
        message = f"{len(context)} fields are given; at most {MAX_CONTEXT_FIELDS} are taken"
        wrong.append(FieldViolation(field="context", message=message))
    if wrong:
        raise invalid_request(wrong)
    return context
