"""Messages of time travel as the public contract's values."""

from datetime import UTC

import orjson
from hearth.agent.v1 import history_service_pb2

from gateway.schemas.histories import Checkpoint


def checkpoint_of(message: history_service_pb2.TaskCheckpoint) -> Checkpoint:
    """The checkpoint in `message`."""
    return Checkpoint(
        id=message.id,
        finished=list(message.finished),
        next=list(message.next),
        attempt=message.attempt,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        state=orjson.loads(message.state) if message.state else {},
        is_cut=message.is_cut,
    )
