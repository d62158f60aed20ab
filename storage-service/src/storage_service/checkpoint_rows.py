"""Checkpoints as rows of the table `checkpoints`."""

from collections.abc import Sequence
from typing import Any

import orjson
from asyncpg import Record
from hearth_runtime.checkpoints import Checkpoint, TypedBytes

from storage_service.arguments import invalid

MIB = 1024 * 1024
CHECKPOINT_BYTES = 16 * MIB


def columns_of(checkpoints: Sequence[Checkpoint]) -> list[list[Any]]:
    """Of each column of `checkpoints` from `namespace` on, what it is in each of them. Raises InvalidArgument where one
    is too large."""
    columns: list[list[Any]] = [[], [], [], [], [], []]
    for one in checkpoints:
        if len(one.checkpoint.data) + len(orjson.dumps(one.metadata)) > CHECKPOINT_BYTES:
            raise invalid("checkpoint", f"holds more than {CHECKPOINT_BYTES // MIB} MiB: keep less in the run's state")
        row = one.namespace, one.id, one.parent_id, one.checkpoint.type, one.checkpoint.data, one.metadata
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns


def checkpoint_of(row: Record) -> Checkpoint:
    """The checkpoint that the row holds."""
    return Checkpoint(
        task_id=str(row["task_id"]),
        namespace=row["namespace"],
        id=row["id"],
        parent_id=row["parent_id"],
        checkpoint=TypedBytes(type=row["type"], data=row["data"]),
        metadata=row["metadata"],
    )
