"""The RPCs of checkpoints and tool calls: requests to values and back. Only a request's validity is decided here."""

from typing import Any

import orjson
from hearth.storage.v1 import checkpoint_store_pb2, checkpoint_store_pb2_grpc
from hearth_runtime.checkpoints import Checkpoint, CheckpointWrites
from hearth_runtime.codec import to_message

from storage_service import arguments
from storage_service.checkpoints import CheckpointFilter, Checkpoints
from storage_service.tool_calls import ToolCall, ToolCalls

PAGE_LIMIT = 500
WRITES_LIMIT = 10_000
# What an entry of an index has room for, all in all: 2704 bytes.
KEY_BYTES = 255
NAMESPACE_BYTES = 1500


class CheckpointStoreRpc(checkpoint_store_pb2_grpc.CheckpointStoreServiceServicer):
    """The tables `checkpoints`, `checkpoint_writes` and `tool_calls`."""

    def __init__(self, checkpoints: Checkpoints, tool_calls: ToolCalls) -> None:
        self._checkpoints = checkpoints
        self._tool_calls = tool_calls

    async def PutCheckpoints(self, request: Any, context: Any) -> checkpoint_store_pb2.PutCheckpointsResponse:
        task_id = arguments.uuid(request.task_id, "task_id")
        if sum(len(after.writes) for after in request.writes) > WRITES_LIMIT:
            raise arguments.invalid("writes", f"must be at most {WRITES_LIMIT}")
        await self._checkpoints.put(
            task_id,
            request.attempt,
            [_checkpoint(one, task_id, f"checkpoints[{n}]") for n, one in enumerate(request.checkpoints)],
            [_writes(after, f"writes[{n}]") for n, after in enumerate(request.writes)],
        )
        return checkpoint_store_pb2.PutCheckpointsResponse()

    async def GetCheckpoint(self, request: Any, context: Any) -> checkpoint_store_pb2.GetCheckpointResponse:
        kept = await self._checkpoints.get(
            arguments.uuid(request.task_id, "task_id"),
            namespace=request.namespace,
            checkpoint_id=request.id if request.HasField("id") else None,
        )
        return to_message(kept, checkpoint_store_pb2.GetCheckpointResponse)

    async def ListCheckpoints(self, request: Any, context: Any) -> checkpoint_store_pb2.ListCheckpointsResponse:
        where = arguments.value_of(request, CheckpointFilter)
        if where.task_id is not None:
            arguments.uuid(where.task_id, "task_id")
        arguments.json_object(where.metadata, "metadata")
        page = await self._checkpoints.list(
            page_size=arguments.page_size(request.page_size, limit=PAGE_LIMIT), token=request.page_token, where=where
        )
        return checkpoint_store_pb2.ListCheckpointsResponse(
            entries=[to_message(kept, checkpoint_store_pb2.ListCheckpointsResponse.Entry) for kept in page.items],
            next_page_token=page.next_token,
        )

    async def DeleteCheckpoints(self, request: Any, context: Any) -> checkpoint_store_pb2.DeleteCheckpointsResponse:
        await self._checkpoints.delete(arguments.uuid(request.task_id, "task_id"), request.attempt)
        return checkpoint_store_pb2.DeleteCheckpointsResponse()

    async def BeginToolCall(self, request: Any, context: Any) -> checkpoint_store_pb2.BeginToolCallResponse:
        known = await self._tool_calls.begin(_tool_call(request))
        return checkpoint_store_pb2.BeginToolCallResponse(
            result=None if known is None else orjson.dumps(known.value).decode()
        )

    async def FinishToolCall(self, request: Any, context: Any) -> checkpoint_store_pb2.FinishToolCallResponse:
        await self._tool_calls.finish(
            arguments.uuid(request.task_id, "task_id"),
            request.attempt,
            call_id=arguments.name(request.call_id, "call_id"),
            result=_json(request.result, "result"),
        )
        return checkpoint_store_pb2.FinishToolCallResponse()


def _checkpoint(message: checkpoint_store_pb2.Checkpoint, task_id: str, field: str) -> Checkpoint:
    checkpoint = arguments.value_of(message, Checkpoint, field)
    check_checkpoint(checkpoint, task_id, field)
    return checkpoint


def check_checkpoint(checkpoint: Checkpoint, task_id: str, field: str) -> None:
    """Raises InvalidArgument where it is none that could be kept of this task."""
    if checkpoint.task_id != task_id:
        raise arguments.invalid(f"{field}.task_id", "must be the task_id of the request")
    _namespace(checkpoint.namespace, f"{field}.namespace")
    _key(checkpoint.id, f"{field}.id")
    arguments.json_object(checkpoint.metadata, f"{field}.metadata")


def _writes(message: checkpoint_store_pb2.CheckpointWrites, field: str) -> CheckpointWrites:
    after = arguments.value_of(message, CheckpointWrites, field)
    _namespace(after.namespace, f"{field}.namespace")
    _key(after.checkpoint_id, f"{field}.checkpoint_id")
    for n, write in enumerate(after.writes):
        _key(write.step_id, f"{field}.writes[{n}].step_id")
    return after


def _tool_call(request: checkpoint_store_pb2.BeginToolCallRequest) -> ToolCall:
    call = arguments.value_of(request, ToolCall)
    arguments.uuid(call.task_id, "task_id")
    arguments.name(call.call_id, "call_id")
    arguments.name(call.tool_name, "tool_name")
    arguments.json_object(call.arguments, "arguments")
    return call


def _key(text: str, field: str) -> str:
    if not 0 < len(text.encode()) <= KEY_BYTES:
        raise arguments.invalid(field, f"must have 1 to {KEY_BYTES} bytes")
    return text


def _namespace(text: str, field: str) -> str:
    if len(text.encode()) > NAMESPACE_BYTES:
        raise arguments.invalid(field, f"must have at most {NAMESPACE_BYTES} bytes")
    return text


def _json(text: str, field: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise arguments.invalid(field, "must be JSON") from error
