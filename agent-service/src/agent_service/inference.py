"""inference-service as a run sees it: an answer, piece by piece; vectors; what a model can do."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
import orjson
from hearth.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from hearth_runtime.agents import Agent
from hearth_runtime.channels import MAX_MESSAGE_BYTES
from hearth_runtime.codec import from_message, to_message
from hearth_runtime.errors import FieldViolation, InvalidArgument
from hearth_runtime.tasks import Turn

from agent_service.tool import ToolSpec

DEADLINE_SLACK_SECONDS = 5.0
DESCRIPTION_SECONDS = 60.0  # how long what a model can do is remembered
MAX_DESCRIPTIONS = 1000
# So many texts go into one request, whose answer then has room for vectors of any length that PostgreSQL takes.
EMBED_TEXTS = 256
EMBED_CHARACTERS = 4_000_000


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call that a model asks for. Nothing says that there is such a tool, or that it takes these arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a conversation; unlike a `Turn`, with all that a model can be shown.

    `images` are files (PNG, JPEG) for models with vision. An assistant's message has the `tool_calls` that it made, and
    one of role "tool" the result of the tool `tool_name`.
    """

    role: str
    content: str
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str | None = None

    def __post_init__(self) -> None:
        # A checkpoint's MessagePack gives lists back.
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something on the way to the answer: a retry, a fallback, a wait."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """How the answer ended; times in seconds."""

    model: str
    host: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    queue_seconds: float
    load_seconds: float
    first_token_seconds: float
    total_seconds: float
    data: str | None

    def usage(self) -> dict[str, Any]:
        """Token counts, and times in seconds."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "duration_seconds": round(self.total_seconds, 3),
            "first_token_seconds": round(self.first_token_seconds, 3),
            "queue_seconds": round(self.queue_seconds, 3),
            "load_seconds": round(self.load_seconds, 3),
            "finish_reason": self.finish_reason,
        }


class Models:
    """The models that inference-service reaches."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = inference_service_pb2_grpc.InferenceServiceStub(channel)
        self._described: dict[str, tuple[float, frozenset[str]]] = {}

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
        """The agent's model's answer: pieces of text, notices and tool calls as they come, and at last `Done`.

        `max_tokens` and `temperature` are the agent's own where they are not given; `output_schema=None` lets the call
        answer freely. Where a tool was called, the answer is not checked by the schema. `think=False` keeps a model
        that thinks before it answers from that: its thoughts are no part of the answer, but count to `max_tokens`.
        Closing the iterator closes the model's request.
        Raises the errors of hearth.inference.v1: ModelLacksCapability, with the `capability` in its metadata, where
        tools or images are given to a model that takes none.
        """
        config = agent.config
        request = inference_service_pb2.ChatRequest(
            model=agent.model_name,
            fallback_models=config.fallback_models,
            messages=[_message(m) for m in messages],
            tools=[
                inference_service_pb2.Tool(
                    name=tool.name, description=tool.description, parameters=orjson.dumps(tool.parameters).decode()
                )
                for tool in tools
            ],
            options=inference_service_pb2.GenerationOptions(
                temperature=config.temperature if temperature is None else temperature,
                top_p=config.top_p,
                seed=config.seed,
                max_tokens=config.max_tokens if max_tokens is None else max_tokens,
                stop=config.stop,
                context_tokens=config.context_tokens,
                keep_alive=config.keep_alive,
                output_schema=output_schema,
                think=think,
            ),
            fair_key=agent.id,
        )
        _check_size(request.ByteSize())
        # The run's own time-out comes first, and knows better what to say.
        async for item in self._stub.Chat(request, timeout=timeout_seconds + DEADLINE_SLACK_SECONDS):
            match item.WhichOneof("item"):
                case "text":
                    yield item.text
                case "notice":
                    yield from_message(item.notice, Notice)
                case "tool_call":
                    yield from_message(item.tool_call, ToolCall)
                case "done":
                    yield from_message(item.done, Done)

    async def embed(
        self, texts: Sequence[str], *, model: str, fair_key: str, timeout_seconds: float
    ) -> list[list[float]]:
        """One vector for each text, in their order; all have the model's one length.

        `timeout_seconds` is for the whole, however many requests it takes. Raises the errors of hearth.inference.v1.
        """
        ends_at = time.monotonic() + timeout_seconds
        vectors: list[list[float]] = []
        for batch in _batches(texts):
            answer = await self._stub.Embed(
                inference_service_pb2.EmbedRequest(model=model, texts=batch, fair_key=fair_key),
                timeout=max(0.001, ends_at - time.monotonic()),
            )
            vectors.extend(list(vector.values) for vector in answer.vectors)
        return vectors

    async def capabilities(self, model_name: str) -> frozenset[str]:
        """What the model can do: completion, tools, vision, embedding, thinking, insert. Empty where its host does not
        say. Raises ModelNotFound, ModelHostUnavailable."""
        now = time.monotonic()
        known = self._described.get(model_name)
        if known is not None and now - known[0] < DESCRIPTION_SECONDS:
            return known[1]
        answer = await self._stub.GetModel(inference_service_pb2.GetModelRequest(name=model_name))
        capabilities = frozenset(answer.model.capabilities)
        # A description without capabilities may be one that did not come in time.
        if capabilities:
            if len(self._described) >= MAX_DESCRIPTIONS:
                self._described.clear()
            self._described[model_name] = (now, capabilities)
        return capabilities


def _message(message: Turn | Message) -> inference_service_pb2.ChatMessage:
    if isinstance(message, Turn):
        return inference_service_pb2.ChatMessage(role=message.role, content=message.content)
    return to_message(message, inference_service_pb2.ChatMessage)


def _check_size(size: int) -> None:
    """Raises InvalidArgument where gRPC would refuse the request, and say less."""
    if size > MAX_MESSAGE_BYTES:
        message = f"it has {size} bytes with its images and tools; at most {MAX_MESSAGE_BYTES} are taken"
        raise InvalidArgument(
            f"The conversation is too large: {message}. Send fewer or smaller images, or a shorter conversation.",
            fields=[FieldViolation(field="messages", message=message)],
        )


def _batches(texts: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    characters = 0
    for text in texts:
        if not batches or len(batches[-1]) >= EMBED_TEXTS or characters + len(text) > EMBED_CHARACTERS:
            batches.append([])
            characters = 0
        batches[-1].append(text)
        characters += len(text)
    return batches
