"""inference-service in this process, as its callers see it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from hearth.inference.v1 import inference_service_pb2 as pb
from hearth.inference.v1 import inference_service_pb2_grpc
from hearth.runtime.v1 import runtime_service_pb2, runtime_service_pb2_grpc
from hearth_runtime.channels import open_channel
from inference_service.main import serve
from inference_service.settings import InferenceSettings
from prometheus_client.parser import text_string_to_metric_families

CALL_SECONDS = 10.0


@dataclass(kw_only=True)
class Heard:
    """What came over a stream so far."""

    pieces: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    done: Any = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def add(self, item: Any) -> None:
        match item.WhichOneof("item"):
            case "text":
                assert self.done is None
                self.pieces.append(item.text)
            case "notice":
                self.notices.append(item.notice.code)
                self.messages.append(item.notice.message)
            case "tool_call":
                self.calls.append(item.tool_call)
            case "done":
                self.done = item.done


@dataclass(frozen=True, kw_only=True)
class Inference:
    """inference-service over its channel."""

    channel: grpc.aio.Channel

    @property
    def stub(self) -> Any:
        return inference_service_pb2_grpc.InferenceServiceStub(self.channel)

    def chat(self, model: str, *, seconds: float = CALL_SECONDS, key: str = "", **fields: Any) -> Any:
        """The call, which yields ChatResponses. Fields that GenerationOptions has go there."""
        options = {k: fields.pop(k) for k in list(fields) if k in pb.GenerationOptions.DESCRIPTOR.fields_by_name}
        fields.setdefault("messages", [pb.ChatMessage(role="user", content="Hello")])
        request = pb.ChatRequest(model=model, fair_key=key, options=pb.GenerationOptions(**options), **fields)
        return self.stub.Chat(request, timeout=seconds)

    async def answer(self, model: str, *, heard: Heard | None = None, **fields: Any) -> Heard:
        """The whole of a chat's answer; what came before an error is in `heard`."""
        heard = heard or Heard()
        async for item in self.chat(model, **fields):
            heard.add(item)
        return heard

    async def embed(self, model: str, texts: Sequence[str], *, seconds: float = CALL_SECONDS) -> Any:
        return await self.stub.Embed(pb.EmbedRequest(model=model, texts=texts), timeout=seconds)

    async def models(self) -> Any:
        return await self.stub.ListModels(pb.ListModelsRequest())

    async def dependency(self, name: str = "ollama") -> Any:
        stub = runtime_service_pb2_grpc.RuntimeServiceStub(self.channel)
        answer = await stub.CheckDependencies(runtime_service_pb2.CheckDependenciesRequest())
        return next(d for d in answer.dependencies if d.name == name)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels; 0 where there is none."""
        stub = runtime_service_pb2_grpc.RuntimeServiceStub(self.channel)
        text = (await stub.GetMetrics(runtime_service_pb2.GetMetricsRequest())).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def inference_on(*urls: str, **settings: Any) -> AsyncIterator[Inference]:
    """inference-service on these model hosts, impatient."""
    folder = Path(tempfile.mkdtemp(prefix="h"))
    patience = {
        "model_connect_seconds": 0.5,
        "model_first_token_seconds": 5.0,
        "model_between_tokens_seconds": 5.0,
        "model_backoff_seconds": 0.01,
        # Tests of other things let a host fail as often as they like.
        "model_breaker_failures": 1000,
        "grace_seconds": 1.0,
    }
    made = InferenceSettings(listen_address=f"unix:{folder}/s", ollama_url=",".join(urls), **{**patience, **settings})
    stopping = asyncio.Event()
    running = asyncio.create_task(serve(made, stopping))
    try:
        async with open_channel("inference", made.listen_address, made) as channel:
            yield Inference(channel=channel)
    finally:
        stopping.set()
        await running
        shutil.rmtree(folder)
