"""inference-service as a run sees it: an answer, piece by piece."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import grpc.aio
from hearth.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from hearth_runtime.agents import Agent
from hearth_runtime.codec import from_message
from hearth_runtime.tasks import Turn

DEADLINE_SLACK_SECONDS = 5.0


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


class Models:
    """The models that inference-service reaches."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = inference_service_pb2_grpc.InferenceServiceStub(channel)

    async def chat(
        self, agent: Agent, messages: Sequence[Turn], *, timeout_seconds: float
    ) -> AsyncIterator[str | Notice | Done]:
        """The agent's model's answer: pieces of text, notices, and at last `Done`.

        Closing the iterator closes the model's request. Raises the errors of hearth.inference.v1.
        """
        config = agent.config
        request = inference_service_pb2.ChatRequest(
            model=agent.model_name,
            fallback_models=config.fallback_models,
            messages=[inference_service_pb2.ChatMessage(role=m.role, content=m.content) for m in messages],
            options=inference_service_pb2.GenerationOptions(
                temperature=config.temperature,
                top_p=config.top_p,
                seed=config.seed,
                max_tokens=config.max_tokens,
                stop=config.stop,
                context_tokens=config.context_tokens,
                keep_alive=config.keep_alive,
                output_schema=config.output_schema,
            ),
            fair_key=agent.id,
        )
        # The run's own time-out comes first, and knows better what to say.
        async for item in self._stub.Chat(request, timeout=timeout_seconds + DEADLINE_SLACK_SECONDS):
            match item.WhichOneof("item"):
                case "text":
                    yield item.text
                case "notice":
                    yield from_message(item.notice, Notice)
                case "done":
                    yield from_message(item.done, Done)
