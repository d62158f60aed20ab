"""Models that say what a test has written down for them."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from agent_service.inference import Done, Message, Models, Notice, ToolCall
from agent_service.tool import ToolSpec
from hearth_runtime.agents import Agent
from hearth_runtime.errors import HearthError
from hearth_runtime.tasks import Turn


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a model was asked."""

    messages: tuple[Turn | Message, ...]
    output_schema: dict[str, Any] | None
    tools: tuple[str, ...]
    think: bool | None

    @property
    def text(self) -> str:
        """All messages in a row."""
        return "\n".join(message.content for message in self.messages)


# Text, a JSON value for a schema, tool calls with text beside them, or an error.
type Reply = str | dict[str, Any] | tuple[ToolCall | str, ...] | HearthError


@dataclass
class ScriptedModels(Models):
    """Gives `reply`'s answer to each request, which it keeps in `asked`."""

    reply: Callable[[Asked], Reply]
    can: frozenset[str] = frozenset({"completion"})
    asked: list[Asked] = field(default_factory=list)

    async def chat(
        self,
        agent: Agent,
        messages: Sequence[Turn | Message],
        *,
        timeout_seconds: float,
        output_schema: str | None,
        tools: Sequence[ToolSpec] = (),
        max_tokens: int | None = None,
        temperature: float | None = None,
        think: bool | None = None,
    ) -> AsyncIterator[str | Notice | ToolCall | Done]:
        schema = None if output_schema is None else orjson.loads(output_schema)
        names = tuple(tool.name for tool in tools)
        asked = Asked(messages=tuple(messages), output_schema=schema, tools=names, think=think)
        self.asked.append(asked)
        reply = self.reply(asked)
        if isinstance(reply, HearthError):
            raise reply
        data = None
        if isinstance(reply, tuple):
            for item in reply:
                yield item
        else:
            text = reply if isinstance(reply, str) else orjson.dumps(reply).decode()
            data = text if schema is not None else None
            yield text
        yield Done(
            model=agent.model_name,
            host="fake",
            finish_reason="stop",
            prompt_tokens=10,
            completion_tokens=5,
            queue_seconds=0.0,
            load_seconds=0.0,
            first_token_seconds=0.0,
            total_seconds=0.0,
            data=data,
        )

    async def embed(
        self, texts: Sequence[str], *, model: str, fair_key: str, timeout_seconds: float
    ) -> list[list[float]]:
        """How often each letter occurs: texts of the same words are near each other."""
        return [[float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]

    async def capabilities(self, model_name: str) -> frozenset[str]:
        return self.can
