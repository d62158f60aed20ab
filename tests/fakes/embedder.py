"""An inference-service that embeds: words to places in a vector, and can be made to stop in between."""

import asyncio
import hashlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hearth.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from hearth_runtime.channels import open_channel
from hearth_runtime.errors import Unimplemented
from hearth_runtime.server import Server
from hearth_runtime.settings import RuntimeSettings

DIMENSIONS = 64


class FakeEmbedder(inference_service_pb2_grpc.InferenceServiceServicer):
    """`texts` is what was embedded. After `stop_after` texts it answers no more, until that is None."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.stop_after: int | None = None
        self.stopped = asyncio.Event()

    async def Embed(self, request: Any, context: Any) -> inference_service_pb2.EmbedResponse:
        if self.stop_after is not None and len(self.texts) >= self.stop_after:
            self.stopped.set()
            await asyncio.Event().wait()
        self.texts += request.texts
        vectors = [inference_service_pb2.EmbedResponse.Vector(values=vector_of(text)) for text in request.texts]
        return inference_service_pb2.EmbedResponse(vectors=vectors, model=request.model)

    async def Chat(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise Unimplemented
        yield

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise Unimplemented
        yield


def vector_of(text: str) -> list[float]:
    """Counts the text's words: those that two texts share bring their vectors together."""
    values = [0.01] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        values[int(hashlib.sha256(word.encode()).hexdigest(), 16) % DIMENSIONS] += 1
    return values


@asynccontextmanager
async def embedder_on_a_socket() -> AsyncIterator[tuple[FakeEmbedder, Any]]:
    """The fake, and a channel to it."""
    folder = tempfile.mkdtemp(prefix="h")
    settings = RuntimeSettings(listen_address=f"unix:{folder}/i", grace_seconds=0.1)
    fake, stopping = FakeEmbedder(), asyncio.Event()
    server = Server(settings)
    server.register(inference_service_pb2_grpc.add_InferenceServiceServicer_to_server, fake, inference_service_pb2)
    running = asyncio.create_task(server.run(stopping))
    try:
        async with open_channel("inference", settings.listen_address, settings) as channel:
            yield fake, channel
    finally:
        stopping.set()
        await running
        shutil.rmtree(folder)
