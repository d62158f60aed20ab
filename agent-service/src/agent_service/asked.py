"""What a model was asked, short enough to be kept with each answer, and how two such differ."""

import hashlib
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson
from hearth_runtime.agents import Agent

from agent_service.inference import Message
from agent_service.tool import ToolSpec

# Whether it is asked for a note: the note is what is given to a replay, which makes none of its calls.
NOTING: ContextVar[bool] = ContextVar("noting", default=False)
# The newest messages are described one by one, the ones before them together.
DESCRIBED_MESSAGES = 20
START_CHARACTERS = 80
DIGEST_CHARACTERS = 16
SHOWN_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request to a model. `digest` is the SHA-256 of its canonical JSON (keys sorted, no blanks), in hexadecimal."""

    digest: str
    model: str
    options: dict[str, Any]
    output_schema: str | None
    tools: dict[str, str]
    messages: tuple[Message, ...]

    @classmethod
    def of(
        cls,
        agent: Agent,
        messages: Sequence[Message],
        *,
        output_schema: str | None,
        tools: Sequence[ToolSpec],
        options: dict[str, Any],
    ) -> "Asked":
        """What the agent's model is asked; `options` are the call's own."""
        config = agent.config
        own = {
            "temperature": config.temperature,
            "top_p": config.top_p,
            "seed": config.seed,
            "max_tokens": config.max_tokens,
            "stop": list(config.stop) or None,
            "context_tokens": config.context_tokens,
        }
        set_by_call = {name: value for name, value in options.items() if value is not None}
        given = {name: value for name, value in {**own, **set_by_call}.items() if value is not None}
        described = {tool.name: _digest([tool.description, tool.parameters]) for tool in tools}
        whole = [agent.model_name, given, output_schema, described, [_plain(message) for message in messages]]
        return cls(
            digest=hashlib.sha256(_canonical(whole)).hexdigest(),
            model=agent.model_name,
            options=given,
            output_schema=output_schema,
            tools=described,
            messages=tuple(messages),
        )

    def to_json(self) -> dict[str, Any]:
        """What is kept of it: digests, and how the newest messages begin."""
        earlier = self.messages[:-DESCRIBED_MESSAGES]
        return {
            "digest": self.digest,
            "model": self.model,
            "options": self.options,
            "output_schema": None if self.output_schema is None else _digest(self.output_schema),
            "tools": self.tools,
            "earlier": None
            if not earlier
            else {"messages": len(earlier), "sha256": _digest([_plain(message) for message in earlier])},
            "messages": [_described(message) for message in self.messages[-DESCRIBED_MESSAGES:]],
            **({"noted": True} if NOTING.get() else {}),
        }

    def difference(self, then: dict[str, Any]) -> dict[str, Any] | None:
        """The first part in which this differs from `then`, what `to_json` gave: {"part", "then", "now"}."""
        if then["digest"] == self.digest:
            return None
        now = self.to_json()
        for part in ("model", "options", "output_schema", "tools", "earlier"):
            if then[part] != now[part]:
                shown = self.output_schema if part == "output_schema" else now[part]
                return {"part": part, "then": then[part], "now": shown}
        first = max(0, len(self.messages) - DESCRIBED_MESSAGES)
        for place in range(max(len(then["messages"]), len(now["messages"]))):
            before = then["messages"][place] if place < len(then["messages"]) else None
            after = now["messages"][place] if place < len(now["messages"]) else None
            if before != after:
                message = None if after is None else self.messages[first + place]
                text = None if message is None else {**(after or {}), "content": message.content[:SHOWN_CHARACTERS]}
                return {"part": f"messages.{first + place}", "then": before, "now": text}
        return {"part": "digest", "then": then["digest"], "now": self.digest}


def _plain(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.content,
        "images": [hashlib.sha256(image).hexdigest() for image in message.images],
        "tool_calls": [[call.name, call.arguments] for call in message.tool_calls],
        "tool_name": message.tool_name,
    }


def _described(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "characters": len(message.content),
        "sha256": _digest(_plain(message)),
        "start": message.content[:START_CHARACTERS],
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()[:DIGEST_CHARACTERS]


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
