"""Typed errors that own their status and travel between services whole.

On the wire an error is a `google.rpc.Status` with an `ErrorInfo` (its `code` as the reason), where fields are to blame
a `BadRequest`, and where it is known when to come back a `RetryInfo`; `from_rpc_error` makes the same class of it again
on the other side. Over HTTP it is RFC 9457 problem details.
Formats: https://google.aip.dev/193, https://www.rfc-editor.org/rfc/rfc9457.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

DOMAIN = "hearth"
DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, kw_only=True)
class FieldViolation:
    """One field that is wrong: its path in the request ("config.top_p") and what to do about it."""

    field: str
    message: str


class HearthError(Exception):
    """What went wrong, in words for whoever asked: `detail` says what it is and what to do.

    A subclass is a kind of failure that a caller can tell from others by its `code`, which never changes.
    `retry_after_seconds` is after how long the same call is worth repeating, where that is known.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong inside Hearth"
    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    http_status: ClassVar[int] = 500
    # Whether the same call may succeed later, nothing else being changed.
    retryable: ClassVar[bool] = False

    _by_code: ClassVar[dict[str, type["HearthError"]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        HearthError._by_code.setdefault(cls.code, cls)

    def __init__(
        self,
        detail: str = "",
        *,
        fields: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.fields = tuple(fields)
        self.metadata = dict(metadata or {})
        self.retry_after_seconds = retry_after_seconds

    def to_status(self) -> status_pb2.Status:
        """The error as `google.rpc.Status`."""
        details: list[Message] = [ErrorInfo(reason=self.code, domain=DOMAIN, metadata=self.metadata)]
        if self.fields:
            details.append(
                BadRequest(
                    field_violations=[
                        BadRequest.FieldViolation(field=f.field, description=f.message) for f in self.fields
                    ]
                )
            )
        if self.retry_after_seconds is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(round(self.retry_after_seconds * 1e9))
            details.append(RetryInfo(retry_delay=delay))
        status = status_pb2.Status(code=self.status.value[0], message=self.detail)
        for detail in details:
            status.details.add().Pack(detail)
        return status

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """The trailing metadata that carries `to_status()`."""
        return ((DETAILS_KEY, self.to_status().SerializeToString()),)


class InvalidArgument(HearthError):
    code = "invalid_argument"
    title = "The request is not valid"
    status = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 422


class NotFound(HearthError):
    code = "not_found"
    title = "There is no such thing"
    status = grpc.StatusCode.NOT_FOUND
    http_status = 404


class Conflict(HearthError):
    code = "conflict"
    title = "The present state does not allow this"
    status = grpc.StatusCode.FAILED_PRECONDITION
    http_status = 409


class Unimplemented(HearthError):
    code = "unimplemented"
    title = "This cannot be done"
    status = grpc.StatusCode.UNIMPLEMENTED
    http_status = 501


class ResourceExhausted(HearthError):
    code = "resource_exhausted"
    title = "A limit is reached"
    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 429
    retryable = True


class Unavailable(HearthError):
    code = "unavailable"
    title = "A part of Hearth is not available"
    status = grpc.StatusCode.UNAVAILABLE
    http_status = 503
    retryable = True


class Undone(Unavailable):
    """What was done was undone, for a reason that is over: the server makes the call once more before it tells."""


class DeadlineExceeded(HearthError):
    code = "deadline_exceeded"
    title = "The time for this call ran out"
    status = grpc.StatusCode.DEADLINE_EXCEEDED
    http_status = 504
    retryable = True


class Cancelled(HearthError):
    code = "call_cancelled"
    title = "The call was cancelled"
    status = grpc.StatusCode.CANCELLED
    http_status = 499


class Unauthenticated(HearthError):
    code = "unauthenticated"
    title = "It is not known who asks"
    status = grpc.StatusCode.UNAUTHENTICATED
    http_status = 401


class PermissionDenied(HearthError):
    code = "permission_denied"
    title = "This is not allowed"
    status = grpc.StatusCode.PERMISSION_DENIED
    http_status = 403


# The kinds of failure that more than one service knows.


class KeyRefused(Unauthenticated):
    code = "key_refused"
    title = "The key lets nobody in"


class TicketRefused(Unauthenticated):
    code = "ticket_refused"
    title = "The ticket lets nobody in"


class KeyNotFound(NotFound):
    code = "key_not_found"
    title = "There is no such key"


class KeyExists(Conflict):
    code = "key_exists"
    title = "There is a key of this prefix already"
    status = grpc.StatusCode.ALREADY_EXISTS


class QuotaExceeded(ResourceExhausted):
    code = "quota_exceeded"
    title = "As much as the key allows is used"


class AgentNotFound(NotFound):
    code = "agent_not_found"
    title = "There is no such agent"


class AgentInactive(Conflict):
    code = "agent_inactive"
    title = "The agent was deleted"


class AgentReserved(Conflict):
    code = "agent_reserved"
    title = "The agent is one of Hearth's own"


class ToolNotFound(NotFound):
    code = "tool_not_found"
    title = "There is no such tool"


class ToolKindNotFound(InvalidArgument):
    code = "tool_kind_not_found"
    title = "No kind of tool has this name"


class ToolNameTaken(Conflict):
    code = "tool_name_taken"
    title = "The agent has a tool of this name"


class TooManyTools(Conflict):
    code = "too_many_tools"
    title = "The agent has as many tools as it may"


class TooManyTrials(ResourceExhausted):
    code = "too_many_trials"
    title = "Too many tools are tried by hand already"


class TooManyAttachments(ResourceExhausted):
    code = "too_many_attachments"
    title = "Too many files of runs wait to be read already"


class SecretKeyMissing(Conflict):
    code = "secret_key_missing"
    title = "Hearth has no key to keep secrets with"


class SecretUnreadable(Conflict):
    code = "secret_unreadable"
    title = "A tool's secrets cannot be read with the present key"


class TaskNotFound(NotFound):
    code = "task_not_found"
    title = "There is no such task"


class TaskFinished(Conflict):
    code = "task_finished"
    title = "The task has ended"


class TaskNotRetryable(Conflict):
    code = "task_not_retryable"
    title = "Only a task that failed or was cancelled can be started again"


class TaskNotReplayable(Conflict):
    code = "task_not_replayable"
    title = "This task cannot be forked or replayed as it is"


class HistoryExpired(Conflict):
    code = "history_expired"
    title = "How this task was run is kept no longer"
    http_status = 410


class TaskNotWaiting(Conflict):
    code = "task_not_waiting"
    title = "The task waits for no answer"


class AlreadyAnswered(Conflict):
    code = "already_answered"
    title = "Another answer was given before"


class SubTaskRefused(Conflict):
    code = "sub_task_refused"
    title = "The task may have no further sub-task"


class NoTaskWaits(NotFound):
    code = "no_task_waits"
    title = "No task waits for a worker"


class QueueFull(ResourceExhausted):
    code = "queue_full"
    title = "Too many tasks wait already"


class WorkflowNotFound(InvalidArgument):
    code = "workflow_not_found"
    title = "No worker has this workflow"


class TooManyStreams(ResourceExhausted):
    code = "too_many_streams"
    title = "Too many live streams are open"


class CheckpointNotFound(NotFound):
    code = "checkpoint_not_found"
    title = "There is no such checkpoint"


class ToolCallUnfinished(Conflict):
    code = "tool_call_unfinished"
    title = "A tool call was cut off, and repeating it may do harm"


class DeadLetterNotFound(NotFound):
    code = "dead_letter_not_found"
    title = "There is no such dead letter"


class CollectionNotFound(NotFound):
    code = "collection_not_found"
    title = "There is no such collection"


class CollectionExists(Conflict):
    code = "collection_exists"
    title = "There is a collection of this name already"
    status = grpc.StatusCode.ALREADY_EXISTS


class DocumentNotFound(NotFound):
    code = "document_not_found"
    title = "There is no such document"


class DocumentIncomplete(Conflict):
    code = "document_incomplete"
    title = "The document has not come whole"


class DocumentUnreadable(InvalidArgument):
    code = "document_unreadable"
    title = "The document cannot be read"


class AttemptOutdated(Conflict):
    code = "attempt_outdated"
    title = "Another attempt of the task has taken over"
    status = grpc.StatusCode.ABORTED


class IdempotencyConflict(HearthError):
    code = "idempotency_conflict"
    title = "The idempotency key was used for another request"
    status = grpc.StatusCode.ALREADY_EXISTS
    http_status = 422


class SessionNotFound(NotFound):
    code = "session_not_found"
    title = "There is no such session"


class SessionInUse(Conflict):
    code = "session_in_use"
    title = "Runs of the session have not ended"


class MemoryNotFound(NotFound):
    code = "memory_not_found"
    title = "There is no such memory"


class MemoryKnown(Conflict):
    code = "memory_known"
    title = "Another memory says the same"


class SubscriptionNotFound(NotFound):
    code = "subscription_not_found"
    title = "There is no such subscription"


class ModelNotFound(NotFound):
    code = "model_not_found"
    title = "No model host has this model"


class ModelLacksCapability(Unimplemented):
    code = "model_lacks_capability"
    title = "The model cannot do this"


class ModelRefused(InvalidArgument):
    code = "model_refused"
    title = "The model host refused the request"


class ModelHostUnavailable(Unavailable):
    code = "model_host_unavailable"
    title = "No model host answers"


class ModelTimeout(DeadlineExceeded):
    code = "model_timeout"
    title = "The model did not answer in time"


class ModelOverloaded(ResourceExhausted):
    code = "model_overloaded"
    title = "Too many requests wait for the model host"


class ModelOutputInvalid(HearthError):
    code = "model_output_invalid"
    title = "The model's answer does not fit what was asked for"
    status = grpc.StatusCode.DATA_LOSS
    http_status = 502
    # Sampling may well give a valid answer the next time.
    retryable = True


class RunTimeout(DeadlineExceeded):
    code = "run_timeout"
    title = "The run took longer than it may"
    # The bound is the client's own; a repetition would only multiply it.
    retryable = False


_BY_STATUS: dict[grpc.StatusCode, type[HearthError]] = {
    cls.status: cls
    for cls in (
        InvalidArgument,
        NotFound,
        Conflict,
        Unimplemented,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        Unauthenticated,
        PermissionDenied,
    )
}

_BY_NUMBER = {status.value[0]: cls for status, cls in _BY_STATUS.items()}


def from_code(code: str, detail: str, *, metadata: Mapping[str, str] | None = None) -> HearthError:
    """The error of this code, as it was when it was noted down; a general one where no version of Hearth knows it."""
    return HearthError._by_code.get(code, HearthError)(detail, metadata=metadata)


def from_status(status: status_pb2.Status) -> HearthError | None:
    """The typed error that `to_status` was made of, or the nearest general one; None where it is no error of ours."""
    code, fields, metadata, retry_after = "", [], {}, None
    for detail in status.details:
        info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if detail.Unpack(info):
            code, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            fields = [FieldViolation(field=v.field, message=v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    if not code:
        return None
    cls = HearthError._by_code.get(code) or _BY_NUMBER.get(status.code, HearthError)
    return cls(status.message, fields=fields, metadata=metadata, retry_after_seconds=retry_after)


def from_rpc_error(error: grpc.aio.AioRpcError, *, service: str) -> HearthError:
    """The typed error that a call to `service` ("storage") ended with, or the nearest general one."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            known = from_status(status_pb2.Status.FromString(value))
            if known is not None:
                return known
    # No detail of ours: gRPC itself speaks, and its words (addresses, errno) are for the log, not for a client.
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(f"The {service} service does not answer. Try again; GET /health shows what is down.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ResourceExhausted(f"A message is too large for the {service} service.")
        case status:
            return _BY_STATUS.get(status, HearthError)()
