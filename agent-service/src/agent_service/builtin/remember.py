"""The tools `remember` and `recall`: what an agent keeps beyond a conversation, and finds again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from hearth_runtime.memories import MEMORY_CHARACTERS, TOPIC_CHARACTERS, MemoryScope, MemorySource

from agent_service.memories import DEFAULT_IMPORTANCE, Memories
from agent_service.run_memory import scope_of, subject_of, subjects_of
from agent_service.tool import Tool, ToolHost, ToolResult, ToolScope, ToolSpec

RECALL_LIMIT = 5
SCOPE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "enum": [scope.value for scope in MemoryScope],
    "description": "For whom facts are kept: all runs of the agent, one session, or the user that the run names. "
    "The agent's own config.memory.scope if left out, or else agent",
}


class Remember:
    """Keeps a fact for `subject`; None where the run has no such session or user."""

    def __init__(self, memories: Memories, scope: ToolScope, kept_for: MemoryScope) -> None:
        self._memories = memories
        self._scope = scope
        self._kept_for = kept_for

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(
            name="remember",
            description="Keep a lasting fact for later conversations, such as a name, a preference or a decision.",
            parameters={
                "type": "object",
                "properties": {
                    "fact": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": MEMORY_CHARACTERS,
                        "description": "One short sentence that can be understood by itself",
                        "examples": ["The user's dog is called Rex."],
                    },
                    "topic": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": TOPIC_CHARACTERS,
                        "description": "What it is about; what was kept of the same topic before is replaced",
                        "examples": ["name of the dog"],
                    },
                    "importance": {
                        "type": "number",
                        "minimum": 0,
                        "maximum": 1,
                        "default": DEFAULT_IMPORTANCE,
                        "description": "How much it matters, from 0 to 1",
                    },
                },
                "required": ["fact"],
                "additionalProperties": False,
            },
            # What is known is not kept twice.
            repeatable=True,
            result_characters=2000,
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        subject = subject_of(self._kept_for, session_id=self._scope.session_id, user=self._scope.user)
        if subject is None:
            return ToolResult(
                content=f"This run names no {self._kept_for.value}, so nothing can be kept for one.", is_error=True
            )
        kept = await self._memories.keep(
            self._scope.agent.id,
            subject,
            arguments["fact"],
            source=MemorySource.TOOL,
            topic=arguments.get("topic"),
            importance=arguments.get("importance", DEFAULT_IMPORTANCE),
            task_id=self._scope.task_id,
        )
        did = "Kept" if kept.created else "Known already"
        replaced = f" It replaces {len(kept.superseded_ids)} older ones." if kept.superseded_ids else ""
        return ToolResult(
            content=f"{did}: {kept.memory.content}{replaced}",
            data={
                "id": kept.memory.id,
                "content": kept.memory.content,
                "created": kept.created,
                "superseded": list(kept.superseded_ids),
            },
        )


class Recall:
    """Finds facts of all that this run may know of."""

    def __init__(self, memories: Memories, scope: ToolScope) -> None:
        self._memories = memories
        self._scope = scope

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(
            name="recall",
            description="Look up what was kept in earlier conversations, about the user or anything else.",
            parameters={
                "type": "object",
                "properties": {
                    "query": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": MEMORY_CHARACTERS,
                        "description": "What to look for, as a question or in keywords",
                        "examples": ["What is the user's dog called?"],
                    }
                },
                "required": ["query"],
                "additionalProperties": False,
            },
            repeatable=True,
        )

    async def call(self, arguments: dict[str, Any], *, call_id: str) -> ToolResult:
        subjects = subjects_of(session_id=self._scope.session_id, user=self._scope.user)
        found = await self._memories.search(
            self._scope.agent.id, subjects, arguments["query"], limit=RECALL_LIMIT, is_recall=True
        )
        if not found:
            return ToolResult(content="Nothing is kept.", data={"memories": []})
        lines = [f"- {recalled.memory.content} ({recalled.memory.updated_at:%Y-%m-%d})" for recalled in found]
        memories = [
            {"id": recalled.memory.id, "content": recalled.memory.content, "score": round(recalled.score, 4)}
            for recalled in found
        ]
        return ToolResult(content="\n".join(lines), data={"memories": memories})


class RememberKind:
    """`remember`."""

    name = "remember"
    description = "Keeps facts for later conversations."
    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"scope": SCOPE_SCHEMA},
        "additionalProperties": False,
    }

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        own = scope.agent.config.memory
        kept_for = MemoryScope(config["scope"]) if "scope" in config else MemoryScope.AGENT
        if "scope" not in config and own is not None:
            kept_for = scope_of(own)
        yield [Remember(Memories.on(host), scope, kept_for)]


class RecallKind:
    """`recall`."""

    name = "recall"
    description = "Finds facts that were kept before."
    config_schema: ClassVar[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}

    @asynccontextmanager
    async def open(self, config: dict[str, Any], scope: ToolScope, host: ToolHost) -> AsyncIterator[Sequence[Tool]]:
        yield [Recall(Memories.on(host), scope)]
