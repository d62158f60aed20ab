"""The OpenAPI document: for each call an example of its success and of each error that it can answer."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts
from hearth_runtime.errors import (
    AgentInactive,
    AgentNotFound,
    AgentReserved,
    AlreadyAnswered,
    CheckpointNotFound,
    CollectionExists,
    CollectionNotFound,
    DeadlineExceeded,
    DocumentIncomplete,
    DocumentNotFound,
    DocumentUnreadable,
    FieldViolation,
    HearthError,
    HistoryExpired,
    IdempotencyConflict,
    KeyRefused,
    MemoryKnown,
    MemoryNotFound,
    ModelLacksCapability,
    ModelNotFound,
    ModelOverloaded,
    QueueFull,
    QuotaExceeded,
    SecretKeyMissing,
    SecretUnreadable,
    SessionInUse,
    SessionNotFound,
    TaskFinished,
    TaskNotFound,
    TaskNotReplayable,
    TaskNotRetryable,
    TaskNotWaiting,
    ToolCallUnfinished,
    ToolKindNotFound,
    ToolNameTaken,
    ToolNotFound,
    TooManyAttachments,
    TooManyStreams,
    TooManyTools,
    TooManyTrials,
    Unauthenticated,
    Unavailable,
)
from hearth_runtime.keys import Scope

from gateway import scopes
from gateway.document_examples import DOCUMENT_ID
from gateway.errors import (
    MEDIA_TYPE,
    BodyTooLarge,
    BodyTooSlow,
    LoginNotNeeded,
    MalformedForm,
    MalformedJson,
    UnsupportedMediaType,
    invalid_request,
    problem,
)
from gateway.examples import AGENT_ID, SESSION_ID, TASK_ID, TOOL_ID
from gateway.history_examples import EXPIRED
from gateway.schemas.problems import Problem

type Responses = dict[int | str, dict[str, Any]]

DEADLINE_EXCEEDED = DeadlineExceeded(
    "The time for this request ran out before all was done. Try again, or allow it more."
)
UNAVAILABLE = Unavailable("The agent service does not answer. Try again; GET /health shows what is down.")
INTERNAL = HearthError("An unexpected error. The gateway's log has it under reference 1f2e3d4c.")
AGENT_NOT_FOUND = AgentNotFound(f"There is no agent {AGENT_ID}. GET /api/v1/agents lists those there are.")
AGENT_INACTIVE = AgentInactive(f"The agent {AGENT_ID} was deleted. Make it active again by PUT, or run another.")
AGENT_RESERVED = AgentReserved("This agent is Hearth's own, and cannot be changed.")
SESSION_NOT_FOUND = SessionNotFound(
    f"There is no session {SESSION_ID}. GET /api/v1/sessions lists those that there are; a run begins one."
)
SESSION_IN_USE = SessionInUse("2 runs of the session have not ended. Wait for them or cancel them, then delete it.")
BAD_SESSION_ID = invalid_request([FieldViolation(field="session_id", message=f"is not a UUID, such as {SESSION_ID}")])
BAD_TITLE = invalid_request([FieldViolation(field="title", message="String should have at most 200 characters")])
BAD_UNTIL_TURN = invalid_request(
    [FieldViolation(field="until_turn", message="must be kept by the session, which has turns 1 to 2")]
)
MEMORY_NOT_FOUND = MemoryNotFound(
    "There is no memory 0199f0a7-3c00-7a22-9b33-4d5e6f7a8b9c. GET /api/v1/agents/AGENT_ID/memories lists those of an "
    "agent."
)
MEMORY_KNOWN = MemoryKnown("Memory 0199f0a7-3c00-7a22-9b33-4d5e6f7a8b9c says the same. Delete one of the two.")
NO_EMBEDDING_MODEL = ModelLacksCapability("smollm2:135m cannot embed. Set HEARTH_EMBEDDING_MODEL to a model that can.")
BAD_MEMORY_ID = invalid_request(
    [FieldViolation(field="memory_id", message="is not a UUID, such as 0199f0a7-3c00-7a22-9b33-4d5e6f7a8b9c")]
)
BAD_MEMORY = invalid_request(
    [FieldViolation(field="body", message="takes `user` in the scope `user`, and there alone")]
)
TASK_NOT_FOUND = TaskNotFound(f"There is no task {TASK_ID}. GET /api/v1/tasks lists those there are.")
TASK_FINISHED = TaskFinished(f"The task {TASK_ID} has completed: there is nothing left to cancel.")
TASK_NOT_RETRYABLE = TaskNotRetryable(
    f"Task {TASK_ID} is completed; only one that failed or was cancelled can be started again."
)
TASK_NOT_WAITING = TaskNotWaiting(f"Task {TASK_ID} is running: it waits for no answer now.")
ALREADY_ANSWERED = AlreadyAnswered(
    "act:1:0 was answered otherwise before, or its time was over. The first answer counts."
)
BAD_RESULT = invalid_request(
    [FieldViolation(field="results[0].id", message="is none of those that wait for an answer: act:1:0")]
)
TOOL_CALL_UNFINISHED = ToolCallUnfinished(
    "A call of the tool send_mail was cut off, and may have been made. Find out; then send "
    '{"repeat_tool_calls": true} if repeating it does no harm, or {"from": "start"}.'
)
TOOL_NOT_FOUND = ToolNotFound(
    f"The agent has no tool {TOOL_ID}. GET /api/v1/agents/{AGENT_ID}/tools lists those that it has."
)
TOOL_KIND_NOT_FOUND = ToolKindNotFound("There is no kind of tool 'calculater'. There are: calculator, current_time.")
TOOL_NAME_TAKEN = ToolNameTaken(
    "The agent has another tool that is called 'sums'. Give this one a `name` of its own, or change that one: "
    f"GET /api/v1/agents/{AGENT_ID}/tools lists them."
)
TOO_MANY_TOOLS = TooManyTools("The agent has 50 tools, the most that it may have. Delete one that it does not need.")
TOO_MANY_TRIALS = TooManyTrials("16 tools are tried at this moment, the most that are. Try again in a moment.")
TOO_MANY_ATTACHMENTS = TooManyAttachments("8 files of runs wait to be read, the most that may. Try again later.")
SECRET_KEY_MISSING = SecretKeyMissing(
    "This tool has secrets, and HEARTH_SECRET_KEY is not set. Make a key with `openssl rand -base64 32`, set "
    "HEARTH_SECRET_KEY to it for both processes of agent-service and restart them."
)
SECRET_UNREADABLE = SecretUnreadable(
    "The secrets of the tool 'sums' cannot be read with the present HEARTH_SECRET_KEY. Set the key that they were "
    f"stored with, or store them again: PUT /api/v1/agents/{AGENT_ID}/tools/{TOOL_ID}."
)
BAD_TOOL_CONFIG = invalid_request(
    [
        FieldViolation(field="tool_config.hosts.0", message='5 is not of type "string"'),
        FieldViolation(field="tool_nmae", message="unknown field; did you mean `tool_name`?"),
    ]
)
TASK_NOT_REPLAYABLE = TaskNotReplayable(
    f"Task {TASK_ID} is running; only one that has completed or failed can be replayed."
)
HISTORY_EXPIRED = HistoryExpired(EXPIRED)
CHECKPOINT_NOT_FOUND = CheckpointNotFound(f"Task {TASK_ID} has no such checkpoint; it begins at its start.")
BAD_FORK = invalid_request([FieldViolation(field="state.mood", message="is not in this state, which has: draft")])
BAD_CHECKPOINT_LIMIT = invalid_request(
    [FieldViolation(field="limit", message="Input should be less than or equal to 100")]
)
BAD_RETRY = invalid_request([FieldViolation(field="from", message="Input should be 'checkpoint' or 'start'")])
QUEUE_FULL = QueueFull("20000 tasks of this agent wait already, of 20000 that may. Try again when some are done.")
IDEMPOTENCY_CONFLICT = IdempotencyConflict("The idempotency key came with another request before. Take a new key.")
TOO_MANY_STREAMS = TooManyStreams("2000 live streams are open. Close some, or try again later.")
BAD_LIMIT = invalid_request([FieldViolation(field="limit", message="Input should be less than or equal to 500")])
UNKNOWN_PARAMETER = invalid_request(
    [FieldViolation(field="limit", message="unknown query parameter; there are none here")]
)
BAD_AGENT_ID = invalid_request([FieldViolation(field="agent_id", message=f"is not a UUID, such as {AGENT_ID}")])
BAD_TASK_ID = invalid_request([FieldViolation(field="task_id", message=f"is not a UUID, such as {TASK_ID}")])
BAD_TEMPERATURE = invalid_request(
    [
        FieldViolation(field="config.temperature", message="Input should be less than or equal to 2"),
        FieldViolation(field="config.temprature", message="unknown field; did you mean `temperature`?"),
    ]
)
BAD_INPUT = invalid_request([FieldViolation(field="input", message="takes exactly one of `prompt` and `messages`")])
BODY_ERRORS = (
    MalformedJson("The body is not JSON: Expecting value at character 9. Mend it and send it again."),
    BodyTooLarge("The body has more than 1048576 bytes, the most that is taken. Send less."),
    UnsupportedMediaType("The body is declared as 'text/plain'. Send JSON, with `Content-Type: application/json`."),
    BodyTooSlow("The body has not come within 60 s. Send it again."),
)


UPLOAD_ERRORS = (
    MalformedForm("The body cannot be read as multipart/form-data: send it as `curl -F` does."),
    BodyTooLarge("The body has more than 52428800 bytes, the most that is taken. Send less."),
    UnsupportedMediaType("The body is declared as 'application/json'. Send a form with a file, as `curl -F` does."),
    BodyTooSlow("The body has not come within 600 s. Send it again."),
)
COLLECTION_NOT_FOUND = CollectionNotFound(
    "There is no collection handbooks. GET /api/v1/collections lists those there are."
)
COLLECTION_EXISTS = CollectionExists("There is a collection handbooks already. Take another name, or change that one.")
DOCUMENT_NOT_FOUND = DocumentNotFound(
    f"There is no document {DOCUMENT_ID}. GET /api/v1/documents lists those there are."
)
DOCUMENT_INCOMPLETE = DocumentIncomplete("1048576 of the document's 1234567 bytes have come. Upload it again.")
BAD_DOCUMENT_ID = invalid_request(
    [FieldViolation(field="document_id", message=f"is not a UUID, such as {DOCUMENT_ID}")]
)
BAD_COLLECTION = invalid_request([FieldViolation(field="name", message="String should match pattern")])
BAD_CHUNK_TOKENS = invalid_request(
    [FieldViolation(field="chunk_tokens", message="Input should be greater than or equal to 32")]
)
BAD_QUERY = invalid_request([FieldViolation(field="query", message="String should have at least 1 character")])
DOCUMENT_UNREADABLE = DocumentUnreadable("notes.pdf cannot be read. It is encrypted. Remove its password.")
IMAGES_UNSEEN = ModelLacksCapability("smollm2:135m cannot see images. Leave them out, or name a model with vision.")
EMPTY_FILE = invalid_request([FieldViolation(field="file", message="is empty: there is nothing to read")])
MODEL_NOT_FOUND = ModelNotFound("No model host has nomic-embed-text:latest. Pull it there, or name another model.")
MODEL_LACKS_CAPABILITY = ModelLacksCapability("smollm2:135m does not embed. Name a model that does.")
MODEL_OVERLOADED = ModelOverloaded("Too many requests wait for the model host. Try again later.")


LOGIN_NOT_NEEDED = LoginNotNeeded("No login is needed here: open the stream without a ticket.")
QUOTA_EXCEEDED = QuotaExceeded(
    "The key allows 60 tasks within a minute, and they are used. Try again later, or ask whoever runs Hearth for more.",
    metadata={"quota": "tasks_per_minute"},
)
UNAUTHENTICATED = Unauthenticated(
    "Say who you are: send `Authorization: Bearer KEY`. Who runs Hearth makes keys with `hearth-admin keys create`."
)
KEY_REFUSED = KeyRefused("The key is not known, was revoked, or its time is over. Ask whoever runs Hearth.")


def answers(status: int, example: Any, *errors: HearthError, location: str | None = None) -> Responses:
    """A call's documented responses: its success with an example, and the errors, which may share a status.

    What every call can answer that asks a service, 500, 503 and 504, is added.
    """
    success: dict[str, Any] = {} if example is None else {"content": {"application/json": {"example": example}}}
    if location is not None:
        success["headers"] = {"Location": {"description": location, "schema": {"type": "string"}}}
    return {status: success, **problems(*errors, INTERNAL, UNAVAILABLE, DEADLINE_EXCEEDED)}


def problems(*errors: HearthError) -> Responses:
    """The documented responses of `errors`, by status."""
    responses: Responses = {}
    for error in errors:
        response = responses.setdefault(
            error.http_status,
            {
                "description": error.title,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}},
            },
        )
        if error.http_status in (429, 503):
            response["headers"] = {
                "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}},
            }
        example = {"summary": error.title, "value": problem(error, "/api/v1/…")}
        response["content"][MEDIA_TYPE]["examples"][error.code] = example
    return responses


def install(app: FastAPI) -> None:
    """Makes `app` serve its OpenAPI document with what FastAPI leaves out: the problems' schema, and nulls."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
                separate_input_output_schemas=False,
            )
            schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            document["components"]["schemas"] |= schema.pop("$defs") | {"Problem": schema}
            _restore_nulls(document, app)
            _secure(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _restore_nulls(document: dict[str, Any], app: FastAPI) -> None:
    """Puts the examples in as they were written: FastAPI drops all that is null from the document, examples too."""
    for route in iter_route_contexts(app.routes):
        if route.path_format not in document["paths"] or not route.include_in_schema:
            continue
        for method in route.methods or ():
            responses = document["paths"][route.path_format][method.lower()]["responses"]
            for status, response in route.responses.items():
                for media_type, content in response.get("content", {}).items():
                    if "example" in content:
                        responses[str(status)]["content"][media_type]["example"] = content["example"]


def _secure(document: dict[str, Any]) -> None:
    """Adds what each call needs of a key, and how it is answered without."""
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of Hearth's, `hearth_…`, or a JSON Web Token where the gateway takes them",
        },
        "ticket": {
            "type": "apiKey",
            "in": "query",
            "name": "ticket",
            "description": "For a stream, where no header can be set: POST /api/v1/tickets",
        },
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            operation_id = operation["operationId"]
            if operation_id in scopes.OPEN:
                operation["security"] = []
                continue
            needed = scopes.NEEDED[operation_id]
            operation["security"] = [{"key": [scope.value]} for scope in (*needed, Scope.ADMIN)]
            if operation_id == "stream_task":
                operation["security"].append({"ticket": []})
            missing = scopes.ScopeMissing(f"This needs a key with the scope {needed[0].value}. Use another key.")
            for status, response in problems(UNAUTHENTICATED, KEY_REFUSED, missing).items():
                response["headers"] = {
                    "WWW-Authenticate": {"description": "RFC 6750", "schema": {"type": "string"}},
                }
                operation["responses"].setdefault(str(status), response)


TAGS = [
    {"name": "agents", "description": "What is run: a model and how it is called."},
    {"name": "tools", "description": "What agents can do besides talking."},
    {"name": "tasks", "description": "Runs of agents. What is accepted will end, whatever process dies."},
    {"name": "sessions", "description": "Conversations, which runs begin and go on with."},
    {"name": "documents", "description": "Files that agents look things up in, in collections; and searching them."},
    {"name": "memories", "description": "What agents remember beyond a conversation."},
    {"name": "logs", "description": "What happens in runs: live, resumed and of the past."},
    {"name": "models", "description": "What agents can run on."},
    {"name": "system", "description": "How Hearth is. These answer at the root as well: `/health`, `/metrics`."},
]

DESCRIPTION = """
Hearth runs AI agents as durable background work on models that you host yourself. Create an agent, start runs of it,
and watch every log line, token and tool call live.

- Times are RFC 3339 in UTC, ids are UUIDs (version 7, in the order of their making), events have ids such as
  `1764000000000-0`, which give all events one order.
- Lists are pages: `limit` (1 to 500) and `cursor`, which is the `next_cursor` of the page before.
- Errors are problem details (RFC 9457): `code` is stable, `detail` says what to do, `errors` names the fields.
- A call that would take longer than its time, 10 seconds by default and 120 where a tool is tried or checked, ends with
  503 or 504. `Prefer: wait=3` (RFC 7240) gives it less. `Retry-After` tells in how many seconds a call that was
  answered with 429 or 503 is worth repeating.
- A body is JSON and has at most 1 MiB, a run with files 16 MiB; a document is uploaded as a form, of 50 MiB at most.
  Unknown fields and query parameters are errors that name the nearest known one.

## Keys

A gateway that other machines reach asks for a key: `Authorization: Bearer hearth_…`, or a JSON Web Token where it takes
them. Without one the answer is 401, with one that lacks the scope 403, which names it. What other owners have is not
there: 404, and in no list. For a browser's EventSource or WebSocket, to which no header can be added,
`POST /api/v1/tickets` makes a ticket that opens one stream within half a minute: `?ticket=…`. A key that was revoked
lets in no more after 5 seconds, and its streams end within 10. 429 tells by `RateLimit` which of the key's quotas is
used up; other answers do not tell what is left.

## Events

A task's events are its log lines and what it shows as it runs. Kinds: `status` (its state has changed), `log` (a line
for people), `step` (a part of the run begins or ends), `delta` (a piece of the model's output, not kept), `message`
(the whole of it), `tool_call`, `tool_result`, `usage`. As JSON an event is

    {"id": "1764000000000-0", "task_id": "…", "agent_id": "…", "attempt": 1, "kind": "log", "level": "info",
     "message": "…", "context": {}, "timestamp": "2025-11-24T16:00:01Z", "trace_id": null}

Streams give each event once and in order; whoever connects again with the last id that it saw misses nothing.
`GET /api/v1/logs/stream/{task_id}` has them as server-sent events. Two WebSockets have them as JSON text frames:

### WS /api/v1/ws/tasks/{task_id}

Every event of one task from its first on, or after `?after=ID`; then `{"kind": "end", "task_id": …, "status": …}`, and
the socket is closed with 1000. An idle socket carries `{"kind": "heartbeat"}`. What the client sends is passed over.

### WS /api/v1/ws/logs

The client says what it wants to see, and may say so again at any time:

    {"subscribe": {"task_ids": […], "agent_ids": […], "levels": ["warning", "error"], "kinds": ["log"],
                   "contains": "text", "context": {"field": "value"}}, "name": "…", "after": "1764000000000-0"}

All of it is optional but that the first message has `subscribe` or `name`: an event matches if it matches each filter
that is there, and any value of one that has several. The answer is `{"subscribed": {…}, "after": …}` with what now
holds; each event after it matches. A new `subscribe` replaces the filters and goes on after the last event that was
sent: nothing is missed and nothing comes twice.

Without `after` the first event is the next that happens. With a `name` (letters, digits, `.`, `_`, `-`) filters and
place are kept: who comes with that name again goes on after the last event that was sent under it, with the filters
that were kept if `subscribe` has none. `name` and `after` are taken with the first message alone. After a connection
that was cut without a goodbye, the events of the last second may come again.

### How sockets end

Where something is wrong, a frame `{"kind": "error", "error": {problem details}}` comes before the close.

| code | meaning |
| --- | --- |
| 1000 | the task has ended, and `end` was sent |
| 1009 | a message of more than 64 KiB was sent |
| 1012 | the gateway stops: connect again and resume |
| 1013 | a message was not read in time, or a service is away, or too many streams are open: try again later |
| 4400 | a message is not valid |
| 4401 | the key was revoked, or its time is over |
| 4404 | there is no such task |
| 4422 | the task's id or `after` is not valid |
""".strip()
