"""Messages of what agents remember as the public contract's values, and back. It translates and never decides."""

import dataclasses
from typing import Any

from hearth.agent.v1 import memory_pb2
from hearth_runtime import memories
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.memories import MemoryScope, MemorySubject

from gateway.schemas.memories import Memory, RecalledMemory


def memory_of(message: memory_pb2.Memory) -> Memory:
    """The fact in `message`."""
    fields: dict[str, Any] = dataclasses.asdict(from_message(message, memories.Memory))
    scope, subject = fields["scope"], fields.pop("subject")
    fields["scope"], fields["source"] = scope.value, fields["source"].value
    return Memory(
        **fields,
        session_id=subject if scope is MemoryScope.SESSION else None,
        user=subject if scope is MemoryScope.USER else None,
    )


def recalled_of(message: memory_pb2.RecalledMemory) -> RecalledMemory:
    """The fact in `message`, with its score."""
    return RecalledMemory(
        memory=memory_of(message.memory),
        similarity=message.similarity,
        relevance=message.relevance,
        recency=message.recency,
        score=message.score,
    )


def subject_message(scope: str, subject: str) -> memory_pb2.MemorySubject:
    """Whose facts."""
    return to_message(MemorySubject(scope=MemoryScope(scope), subject=subject), memory_pb2.MemorySubject)


def scope_number(scope: str) -> "memory_pb2.Memory.Scope.ValueType":
    """The scope by its public name."""
    return memory_pb2.Memory.Scope.Value(f"SCOPE_{scope.upper()}")
