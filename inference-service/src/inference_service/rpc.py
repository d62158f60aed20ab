"""InferenceService: translates between messages and values, and decides nothing."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from hearth.inference.v1 import inference_service_pb2 as pb
from hearth.inference.v1 import inference_service_pb2_grpc
from hearth_runtime.codec import from_message, to_message

from inference_service.answer import Done, Item, Notice
from inference_service.conversation import Message, Tool, ToolCall
from inference_service.embedding import EmbeddingModels
from inference_service.generation import Generator
from inference_service.generation_request import Options, Request
from inference_service.hosts import Hosts


class InferenceRpc(inference_service_pb2_grpc.InferenceServiceServicer):
    """hearth.inference.v1.InferenceService."""

    def __init__(self, generator: Generator, embedding: EmbeddingModels, hosts: Hosts) -> None:
        self._generator = generator
        self._embedding = embedding
        self._hosts = hosts

    async def Chat(self, request: pb.ChatRequest, context: Any) -> AsyncIterator[pb.ChatResponse]:
        wanted = Request(
            models=(request.model, *request.fallback_models),
            messages=tuple(from_message(m, Message) for m in request.messages),
            tools=tuple(from_message(t, Tool) for t in request.tools),
            options=from_message(request.options, Options),
            fair_key=request.fair_key,
            seconds=context.time_remaining(),
        )
        async with aclosing(self._generator.generate(wanted)) as items:
            async for item in items:
                yield pb.ChatResponse(**_item(item))

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        wanted = Request(
            models=(request.model, *request.fallback_models),
            prompt=request.prompt,
            system=request.system if request.HasField("system") else None,
            options=from_message(request.options, Options),
            fair_key=request.fair_key,
            seconds=context.time_remaining(),
        )
        async with aclosing(self._generator.generate(wanted)) as items:
            async for item in items:
                yield pb.GenerateResponse(**_item(item))

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        answer = await self._embedding.embed(
            request.model, request.texts, fair_key=request.fair_key, seconds=context.time_remaining()
        )
        return pb.EmbedResponse(
            vectors=[pb.EmbedResponse.Vector(values=v) for v in answer.vectors],
            model=answer.model,
            prompt_tokens=answer.prompt_tokens,
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        models, hosts = await self._hosts.models()
        return pb.ListModelsResponse(
            models=[to_message(m, pb.Model) for m in models], hosts=[to_message(h, pb.ModelHost) for h in hosts]
        )

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        return pb.GetModelResponse(model=to_message(await self._hosts.model(request.name), pb.Model))


def _item(item: Item) -> dict[str, Any]:
    match item:
        case str():
            return {"text": item}
        case Notice():
            return {"notice": to_message(item, pb.Notice)}
        case ToolCall():
            return {"tool_call": to_message(item, pb.ToolCall)}
        case Done():
            return {"done": to_message(item, pb.Done)}
