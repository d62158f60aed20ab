"""Messages of the services as the public contract's values, and back. It translates and never decides."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

import orjson
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from hearth.agent.v1 import agent_pb2, task_pb2, task_service_pb2
from hearth.inference.v1 import inference_service_pb2
from hearth.log.v1 import event_pb2, log_service_pb2
from hearth_runtime.codec import timestamp
from hearth_runtime.telemetry import trace_id_of

from gateway.links import Links
from gateway.schemas.agents import Agent, AgentConfig, AgentMemory, Budget
from gateway.schemas.client_tools import ClientTool
from gateway.schemas.fields import Kind, Level, Outcome, TaskStatus
from gateway.schemas.logs import Log
from gateway.schemas.models import Breaker, Model, ModelHost
from gateway.schemas.requests import PendingRequest, RequestResult
from gateway.schemas.tasks import Attempt, RunAccepted, Task, TaskInput, TaskOutput

# Numbers of enum values by their public names, and back.
STATUSES = {n.removeprefix("STATUS_").lower(): v for n, v in task_pb2.Task.Status.items() if v}
LEVELS = {n.removeprefix("LEVEL_").lower(): v for n, v in event_pb2.Event.Level.items() if v}
KINDS = {n.removeprefix("KIND_").lower(): v for n, v in event_pb2.Event.Kind.items() if v}
OUTCOMES = {n.removeprefix("OUTCOME_").lower(): v for n, v in task_pb2.Attempt.Outcome.items() if v}
STATUS_NAMES = {v: cast(TaskStatus, n) for n, v in STATUSES.items()}
OUTCOME_NAMES = {v: cast(Outcome, n) for n, v in OUTCOMES.items()}
BREAKER_NAMES: dict[int, Literal["half_open", "open"]] = {
    inference_service_pb2.Breaker.STATE_HALF_OPEN: "half_open",
    inference_service_pb2.Breaker.STATE_OPEN: "open",
}
PENDING_KINDS: dict[int, Literal["tool_call", "approval", "question", "task"]] = {
    task_pb2.Pending.KIND_TOOL_CALL: "tool_call",
    task_pb2.Pending.KIND_APPROVAL: "approval",
    task_pb2.Pending.KIND_QUESTION: "question",
    task_pb2.Pending.KIND_TASK: "task",
}
LEVEL_NAMES = {v: cast(Level, n) for n, v in LEVELS.items()}
KIND_NAMES = {v: cast(Kind, n) for n, v in KINDS.items()}


def config_message(config: AgentConfig) -> agent_pb2.AgentConfig:
    """What of `config` is set."""
    fields = config.model_dump(exclude_none=True)
    if "output_schema" in fields:
        # Not by orjson, which knows no integer beyond 64 bits, though JSON does.
        fields["output_schema"] = json.dumps(fields["output_schema"], ensure_ascii=False)
    if config.tools is not None:
        fields["tools"] = [_tool_fields(tool) for tool in config.tools]
    return json_format.ParseDict(fields, agent_pb2.AgentConfig())


def tool_messages(tools: Iterable[ClientTool]) -> list[agent_pb2.ClientTool]:
    """The client tools as messages."""
    return [agent_pb2.ClientTool(**_tool_fields(tool)) for tool in tools]


def _tool_fields(tool: ClientTool) -> dict[str, Any]:
    fields = tool.model_dump(exclude_none=True, exclude={"type"})
    return {**fields, "parameters": json.dumps(tool.parameters, ensure_ascii=False)}


def agent_of(message: agent_pb2.Agent) -> Agent:
    """The agent in `message`."""
    fields = json_format.MessageToDict(message.config, preserving_proto_field_name=True)
    if "output_schema" in fields:
        fields["output_schema"] = json.loads(fields["output_schema"])
    for name, schema in (("budget", Budget), ("memory", AgentMemory)):
        if name in fields:
            fields[name] = schema.model_construct(**fields[name])
    if "tools" in fields:
        fields["tools"] = [
            # protobuf leaves out an empty description.
            ClientTool.model_construct(
                type="client", **{"description": "", **tool, "parameters": json.loads(tool["parameters"])}
            )
            for tool in fields["tools"]
        ]
    return Agent(
        id=message.id,
        name=message.name,
        description=message.description,
        model_name=message.model_name,
        # What was stored is shown, even where the bounds have changed since.
        config=AgentConfig.model_construct(**fields),
        created_at=_time(message.created_at),
        updated_at=_time(message.updated_at),
        is_active=message.is_active,
    )


def task_of(message: task_pb2.Task, links: Links) -> Task:
    """The task in `message`, and where to follow it."""
    return Task(
        id=message.id,
        agent_id=message.agent_id,
        session_id=message.session_id if message.HasField("session_id") else None,
        status=STATUS_NAMES[message.status],
        input=_input_of(message.input),
        output=TaskOutput.model_validate_json(message.output) if message.HasField("output") else None,
        error_code=message.error_code if message.HasField("error_code") else None,
        error_message=message.error_message if message.HasField("error_message") else None,
        retry_count=message.retry_count,
        attempt=message.attempt,
        created_at=_time(message.created_at),
        started_at=_time(message.started_at) if message.HasField("started_at") else None,
        completed_at=_time(message.completed_at) if message.HasField("completed_at") else None,
        next_attempt_at=_time(message.next_attempt_at) if message.HasField("next_attempt_at") else None,
        cancel_requested=message.cancel_requested,
        user=message.user if message.HasField("user") else None,
        pending=[_pending_of(pending) for pending in message.pending],
        parent_task_id=message.parent_task_id if message.HasField("parent_task_id") else None,
        forked_from_task_id=message.forked_from_task_id if message.HasField("forked_from_task_id") else None,
        replay_of_task_id=message.replay_of_task_id if message.HasField("replay_of_task_id") else None,
        trace_id=message.trace_id if message.HasField("trace_id") else None,
        links=links.of(message),
    )


def _pending_of(message: task_pb2.Pending) -> PendingRequest:
    return PendingRequest(
        id=message.id,
        kind=PENDING_KINDS[message.kind],
        name=message.name,
        arguments=json.loads(message.arguments),
        expires_at=_time(message.expires_at) if message.HasField("expires_at") else None,
        task_id=message.task_id if message.HasField("task_id") else None,
    )


def answer_of(result: RequestResult) -> task_service_pb2.RequestAnswer:
    """The answer to one pending thing as a message."""
    answer = result.model_dump(include={"decision", "arguments", "reason"}, exclude_none=True)
    if result.decision is None:
        answer["output"] = result.output
    return task_service_pb2.RequestAnswer(id=result.id, answer=json.dumps(answer, ensure_ascii=False))


def _input_of(text: str) -> TaskInput:
    fields = json.loads(text)
    if "attachments" in fields:
        fields["attachments"] = [
            {
                "name": file["name"],
                "media_type": file["media_type"],
                "characters": len(file["text"]) if "text" in file else None,
            }
            for file in fields["attachments"]
        ]
    return TaskInput.model_validate(fields)


def attempt_of(message: task_pb2.Attempt) -> Attempt:
    """The attempt in `message`."""
    return Attempt(
        attempt=message.attempt,
        worker_id=message.worker_id,
        started_at=_time(message.started_at),
        ended_at=_time(message.ended_at) if message.HasField("ended_at") else None,
        outcome=OUTCOME_NAMES.get(message.outcome),
        error_code=message.error_code if message.HasField("error_code") else None,
        error_message=message.error_message if message.HasField("error_message") else None,
        resumed_from=message.resumed_from if message.HasField("resumed_from") else None,
    )


def accepted_of(message: task_pb2.Task, links: Links) -> RunAccepted:
    """The run in `message`, and where to follow it."""
    return RunAccepted(task_id=message.id, status=STATUS_NAMES[message.status], links=links.of(message))


def log_of(event: event_pb2.Event) -> Log:
    """The event as an item of a page."""
    return Log(
        id=event.id,
        task_id=event.task_id,
        agent_id=event.agent_id,
        level=LEVEL_NAMES[event.level],
        kind=KIND_NAMES[event.kind],
        attempt=event.attempt,
        message=event.message,
        context=orjson.loads(event.context) if event.context else {},
        timestamp=_time(event.timestamp),
        trace_id=trace_id_of(event.traceparent),
        stream_id=event.stream_id,
    )


def event_json(event: event_pb2.Event) -> str:
    """The event as streams carry it. Its context is JSON text already and is put in as it is."""
    return orjson.dumps(
        {
            "id": event.stream_id,
            "task_id": event.task_id,
            "agent_id": event.agent_id,
            "attempt": event.attempt,
            "kind": KIND_NAMES[event.kind],
            "level": LEVEL_NAMES[event.level],
            "message": event.message,
            "context": orjson.Fragment(event.context or "{}"),
            "timestamp": _time(event.timestamp),
            "trace_id": trace_id_of(event.traceparent),
        },
        option=orjson.OPT_UTC_Z,
    ).decode()


def end_json(task_id: str, status: str) -> str:
    """What says that the task has ended and its last event was sent."""
    return orjson.dumps({"kind": "end", "task_id": task_id, "status": status}).decode()


def model_of(message: inference_service_pb2.Model) -> Model:
    """The model in `message`."""
    return Model(
        name=message.name,
        capabilities=list(message.capabilities),
        family=message.family,
        parameter_size=message.parameter_size,
        quantization=message.quantization,
        size_bytes=message.size_bytes,
        context_tokens=message.context_tokens or None,
        hosts=list(message.hosts),
    )


def host_of(message: inference_service_pb2.ModelHost) -> ModelHost:
    """The host in `message`."""
    return ModelHost(
        name=message.name,
        reachable=message.reachable,
        version=message.version,
        error=message.error or None,
        active_requests=message.active_requests,
        waiting_requests=message.waiting_requests,
        breaker=_breaker(message.breaker),
    )


def _breaker(message: inference_service_pb2.Breaker) -> Breaker:
    return Breaker(
        state=BREAKER_NAMES.get(message.state, "closed"),
        reason=message.reason or None,
        since=_time(message.since_time) if message.HasField("since_time") else None,
        next_probe=_time(message.next_probe_time) if message.HasField("next_probe_time") else None,
    )


def event_filter(
    *,
    task_ids: Iterable[str] | None = None,
    agent_ids: Iterable[str] | None = None,
    levels: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    contains: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    context: Mapping[str, str] | None = None,
) -> log_service_pb2.EventFilter:
    """A filter of events. What is left out, or is empty, filters nothing."""
    return log_service_pb2.EventFilter(
        task_ids=task_ids or (),
        agent_ids=agent_ids or (),
        levels=[LEVELS[level] for level in levels or ()],
        kinds=[KINDS[kind] for kind in kinds or ()],
        contains=contains,
        since=None if since is None else timestamp(since),
        until=None if until is None else timestamp(until),
        context=context or {},
    )


def filters_of(message: log_service_pb2.EventFilter) -> dict[str, Any]:
    """What of a subscription's filter is set, as the client writes it."""
    filters = {
        "task_ids": list(message.task_ids),
        "agent_ids": list(message.agent_ids),
        "levels": [LEVEL_NAMES[level] for level in message.levels],
        "kinds": [KIND_NAMES[kind] for kind in message.kinds],
        "contains": message.contains if message.HasField("contains") else None,
        "context": dict(message.context),
    }
    return {name: value for name, value in filters.items() if value}


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
