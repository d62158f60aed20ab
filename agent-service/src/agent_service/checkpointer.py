"""LangGraph's checkpointer over storage-service, for one attempt at a task.

The thread of a checkpoint is the task. Semantics: https://reference.langchain.com/python/langgraph/checkpoints.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from hearth_runtime.checkpoints import Checkpoint as StoredCheckpoint
from hearth_runtime.checkpoints import CheckpointWrite, CheckpointWrites, KeptCheckpoint, TypedBytes
from hearth_runtime.errors import CheckpointNotFound
from hearth_runtime.tasks import Turn
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.constants import START

from agent_service.budgets import Spent
from agent_service.checkpoint_store import StoredCheckpoints
from agent_service.inference import Message, ToolCall
from agent_service.next_steps import next_steps
from agent_service.plan import PlanStep, StepResult
from agent_service.toolbox import Observation, PlannedCall

PAGE_SIZE = 20
# Of the last checkpoint. A larger one is kept by itself.
HELD_BYTES = 1024 * 1024
# The dataclasses of ours that a state may hold. One that is not here comes back as a dict of its fields.
STATE_TYPES = (Turn, Message, ToolCall, Spent, PlannedCall, Observation, PlanStep, StepResult)


class StateSerializer(JsonPlusSerializer):
    """MessagePack that makes only plain values, LangGraph's and LangChain's own, and `STATE_TYPES` again.

    Neither pickle nor LangGraph's older JSON, which names classes to construct, is read.
    """

    def __init__(self) -> None:
        super().__init__(pickle_fallback=False, allowed_json_modules=None, allowed_msgpack_modules=STATE_TYPES)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value. Raises NotImplementedError for a type that `dumps_typed` does not write."""
        if data[0] == "json":
            raise NotImplementedError("Unknown serialization type: json")
        return super().loads_typed(data)


class Checkpointer(BaseCheckpointSaver[str]):
    """The checkpoints of the task that `attempt` runs; thread_id in a config is the task's id.

    It is a whole saver, as langgraph-checkpoint-conformance asks of one: Hearth neither lists nor deletes by it.

    Every write raises AttemptOutdated once another attempt has taken over, on which the run is to stop. Compile a graph
    with it and run that with durability="sync", so that no step begins before the one before it is kept. It has async
    methods only. Of a task that `is_new` nothing is asked before something is kept.

    The checkpoints that a new task has before its first step ends say no more than its row, and are held back until
    something else is to be kept. So is the last one of a run where `holds_last`: whoever ends the task keeps it with
    that (`kept_with`). What a step wrote that has no other beside it is not kept, since the checkpoint that
    has it follows at once; unless the step failed. (A state with LangGraph's DeltaChannel would need it.)
    """

    def __init__(
        self, store: StoredCheckpoints, *, attempt: int, is_new: bool = False, holds_last: bool = False
    ) -> None:
        super().__init__(serde=StateSerializer())
        self._store = store
        self._attempt = attempt
        self._is_empty = is_new
        self._holds_last = holds_last
        self._task_id = ""
        self._has_one_next = False
        self._held: list[StoredCheckpoint] = []
        self._told: list[Callable[[], Awaitable[None]]] = []

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the last one of its thread and namespace; None without one."""
        await self.keep_held()
        if self._is_empty:
            return None
        try:
            kept = await self._store.get(
                config["configurable"]["thread_id"],
                namespace=config["configurable"].get("checkpoint_ns", ""),
                checkpoint_id=get_checkpoint_id(config),
            )
        except CheckpointNotFound:
            return None
        return self._tuple_of(kept)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints that the config names, of all tasks without one, the newest first.

        `filter` is what their metadata must contain; `before` names the one before which to look.
        """
        await self.keep_held()
        configurable = config["configurable"] if config is not None else {}
        token, left = "", limit
        while left is None or left > 0:
            page, token = await self._store.page(
                size=PAGE_SIZE if left is None else min(PAGE_SIZE, left),
                token=token,
                task_id=configurable.get("thread_id"),
                namespace=configurable.get("checkpoint_ns"),
                checkpoint_id=configurable.get("checkpoint_id"),
                before_id=get_checkpoint_id(before) if before is not None else None,
                metadata=filter or {},
            )
            for kept in page:
                yield self._tuple_of(kept)
            if not token:
                return
            left = None if left is None else left - len(page)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Stores the checkpoint after the one that the config names. Raises AttemptOutdated, and InvalidArgument where
        the state is too large."""
        configurable = config["configurable"]
        kind, data = self.serde.dumps_typed(checkpoint)
        stored = StoredCheckpoint(
            task_id=configurable["thread_id"],
            namespace=configurable.get("checkpoint_ns", ""),
            id=checkpoint["id"],
            parent_id=get_checkpoint_id(config),
            checkpoint=TypedBytes(type=kind, data=data),
            metadata=dict(get_serializable_checkpoint_metadata(config, metadata)),
        )
        steps = 1 if START in checkpoint["channel_values"] else len(next_steps(checkpoint["channel_values"]))
        self._has_one_next = steps == 1
        self._task_id = stored.task_id
        self._held.append(stored)
        is_first = self._is_empty and metadata.get("step", 0) < 1 and steps > 0
        is_last = self._holds_last and steps == 0 and not stored.namespace and len(data) <= HELD_BYTES
        if not (is_first or is_last):
            await self._send()
        return _config(stored.task_id, stored.namespace, stored.id)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Stores what LangGraph's task `task_id`, one execution of a step, wrote after the checkpoint that the config
        names. Raises AttemptOutdated, and InvalidArgument where it is too large."""
        # Those of LangGraph's own channels tell of a step that did not end: no checkpoint follows.
        if self._has_one_next and all(channel not in WRITES_IDX_MAP for channel, _ in writes):
            return
        configurable = config["configurable"]
        stored = []
        for place, (channel, value) in enumerate(writes):
            kind, data = self.serde.dumps_typed(value)
            stored.append(
                CheckpointWrite(
                    step_id=task_id,
                    step_path=task_path,
                    idx=WRITES_IDX_MAP.get(channel, place),
                    channel=channel,
                    value=TypedBytes(type=kind, data=data),
                )
            )
        self._task_id = configurable["thread_id"]
        after = CheckpointWrites(
            namespace=configurable.get("checkpoint_ns", ""),
            checkpoint_id=configurable["checkpoint_id"],
            writes=tuple(stored),
        )
        await self._send(after)

    async def adelete_thread(self, thread_id: str) -> None:
        """Deletes all checkpoints of the task. Raises AttemptOutdated."""
        self._held = []
        await self._store.delete(thread_id, attempt=self._attempt)

    async def keep_held(self) -> None:
        """Keeps what is held back, where no more comes. Raises as every write."""
        if self._held:
            await self._send()

    async def kept_with[T](self, write: Callable[[Sequence[StoredCheckpoint]], Awaitable[T]]) -> T:
        """What `write` gives, which keeps what is held back with something of its own; held back still where it
        raises."""
        given = await write(self._held)
        self._held = []
        await self._tell()
        return given

    async def when_kept(self, tell: Callable[[], Awaitable[None]]) -> None:
        """Does `tell` once all that was put is kept: now, where nothing is held back."""
        self._told.append(tell)
        if not self._held:
            await self._tell()

    def get_next_version(self, current: str | None, channel: None) -> str:
        """The version of a channel after `current`: numbers of a fixed width, which sort as text."""
        return f"{int(current or 0) + 1:032}"

    async def _send(self, *writes: CheckpointWrites) -> None:
        held, self._held, self._is_empty = self._held, [], False
        await self._store.put(self._task_id, attempt=self._attempt, checkpoints=held, writes=writes)
        await self._tell()

    async def _tell(self) -> None:
        told, self._told = self._told, []
        for tell in told:
            await tell()

    def _tuple_of(self, kept: KeptCheckpoint) -> CheckpointTuple:
        stored = kept.checkpoint
        metadata: Any = stored.metadata
        return CheckpointTuple(
            config=_config(stored.task_id, stored.namespace, stored.id),
            checkpoint=self.serde.loads_typed((stored.checkpoint.type, stored.checkpoint.data)),
            metadata=metadata,
            parent_config=(
                None if stored.parent_id is None else _config(stored.task_id, stored.namespace, stored.parent_id)
            ),
            pending_writes=[
                (write.step_id, write.channel, self.serde.loads_typed((write.value.type, write.value.data)))
                for write in kept.writes
            ],
        )


def _config(task_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {"thread_id": task_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id},
    }
