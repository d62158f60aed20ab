"""Checkpoints and the journal of tool calls, as storage-service keeps them."""

from collections.abc import Sequence
from typing import Any

import grpc.aio
import orjson
from google.protobuf.message import Message
from hearth.storage.v1 import checkpoint_store_pb2, checkpoint_store_pb2_grpc
from hearth_runtime.channels import MAX_MESSAGE_BYTES
from hearth_runtime.checkpoints import Checkpoint, CheckpointWrites, KeptCheckpoint
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.errors import InvalidArgument
from hearth_runtime.principals import acting_for


class StoredCheckpoints:
    """The tables `checkpoints`, `checkpoint_writes` and `tool_calls`.

    Every write raises AttemptOutdated where another attempt has taken over, and InvalidArgument where it is too large.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = checkpoint_store_pb2_grpc.CheckpointStoreServiceStub(channel)

    async def put(
        self, task_id: str, *, attempt: int, checkpoints: Sequence[Checkpoint], writes: Sequence[CheckpointWrites]
    ) -> None:
        """Inserts the checkpoints, or replaces them, and adds what steps wrote: all of it, or nothing."""
        request = checkpoint_store_pb2.PutCheckpointsRequest(
            task_id=task_id,
            attempt=attempt,
            checkpoints=[to_message(one, checkpoint_store_pb2.Checkpoint) for one in checkpoints],
            writes=[to_message(after, checkpoint_store_pb2.CheckpointWrites) for after in writes],
        )
        with acting_for(None):  # the attempt alone decides
            await self._stub.PutCheckpoints(_bounded(request, "The run's state, with what a step wrote,"))

    async def get(self, task_id: str, *, namespace: str, checkpoint_id: str | None) -> KeptCheckpoint:
        """The checkpoint with this id, or the last one. Raises CheckpointNotFound."""
        request = checkpoint_store_pb2.GetCheckpointRequest(task_id=task_id, namespace=namespace, id=checkpoint_id)
        return from_message(await self._stub.GetCheckpoint(request), KeptCheckpoint)

    async def page(
        self,
        *,
        size: int,
        token: str,
        task_id: str | None,
        namespace: str | None,
        checkpoint_id: str | None,
        before_id: str | None,
        metadata: dict[str, Any],
    ) -> tuple[tuple[KeptCheckpoint, ...], str]:
        """Checkpoints that fit, the newest first, and the token of the next page. `before_id` is exclusive."""
        answer = await self._stub.ListCheckpoints(
            checkpoint_store_pb2.ListCheckpointsRequest(
                page_size=size,
                page_token=token,
                task_id=task_id,
                namespace=namespace,
                id=checkpoint_id,
                before_id=before_id,
                metadata=orjson.dumps(metadata).decode(),
            )
        )
        return tuple(from_message(entry, KeptCheckpoint) for entry in answer.entries), answer.next_page_token

    async def delete(self, task_id: str, *, attempt: int) -> None:
        """Deletes all checkpoints of the task."""
        await self._stub.DeleteCheckpoints(
            checkpoint_store_pb2.DeleteCheckpointsRequest(task_id=task_id, attempt=attempt)
        )

    async def begin_tool_call(
        self, task_id: str, *, attempt: int, call_id: str, tool_name: str, arguments: str, repeatable: bool
    ) -> str | None:
        """Notes that the call begins; or gives its result, JSON, where it is known. Raises ToolCallUnfinished."""
        request = checkpoint_store_pb2.BeginToolCallRequest(
            task_id=task_id,
            attempt=attempt,
            call_id=call_id,
            tool_name=tool_name,
            arguments=arguments,
            repeatable=repeatable,
        )
        answer = await self._stub.BeginToolCall(_bounded(request, "The arguments of a tool call"))
        return answer.result if answer.HasField("result") else None

    async def finish_tool_call(self, task_id: str, *, attempt: int, call_id: str, result: str) -> None:
        """Keeps the result, JSON."""
        request = checkpoint_store_pb2.FinishToolCallRequest(
            task_id=task_id, attempt=attempt, call_id=call_id, result=result
        )
        await self._stub.FinishToolCall(_bounded(request, "The result of a tool call"))


def _bounded[M: Message](request: M, what: str) -> M:
    """The request, where it is not larger than a message may be: gRPC's own error would be taken for overload."""
    if request.ByteSize() > MAX_MESSAGE_BYTES:
        mib = MAX_MESSAGE_BYTES // 1024**2
        raise InvalidArgument(f"{what} is larger than {mib} MiB. Keep less in it.")
    return request
