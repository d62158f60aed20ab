"""A model on a host that speaks Ollama's API, for benchmarks: its answers are kept by what was asked."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from agent_service.tool import ToolSpec
from agent_service.tool_choice import NativeAnswer, NativeCall
from hearth_runtime.tasks import Turn

START_SECONDS = 60.0


class HostedModel:
    """A `ChoiceModel` over HTTP, at temperature 0. `calls` counts what was asked, answers from the cache included."""

    def __init__(
        self, client: httpx.AsyncClient, *, model: str, embedding_model: str, native: bool, cache: Path
    ) -> None:
        self._client = client
        self._model = model
        self._embedding_model = embedding_model
        self._native = native
        self._cache = cache
        self.calls = 0

    @property
    def native(self) -> bool:
        return self._native

    async def complete(self, messages: Sequence[Turn], *, schema: dict[str, Any], max_tokens: int, purpose: str) -> str:
        answer = await self._post("/api/chat", {**self._chat(messages, max_tokens), "format": schema})
        return str(answer["message"]["content"])

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        vectors: list[Sequence[float]] = []
        for text in texts:  # one at a time, so that each is kept by itself
            answer = await self._post("/api/embed", {"model": self._embedding_model, "input": [text]}, counts=False)
            vectors.append(answer["embeddings"][0])
        return vectors

    async def call_tools(self, messages: Sequence[Turn], tools: Sequence[ToolSpec]) -> NativeAnswer:
        described = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in tools
        ]
        answer = (await self._post("/api/chat", {**self._chat(messages, 512), "tools": described}))["message"]
        return NativeAnswer(
            text=answer["content"],
            calls=tuple(
                NativeCall(name=call["function"]["name"], arguments=call["function"]["arguments"])
                for call in answer.get("tool_calls") or ()
            ),
        )

    def _chat(self, messages: Sequence[Turn], max_tokens: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
            "stream": False,
            "options": {"temperature": 0, "seed": 1, "num_predict": max_tokens, "repeat_penalty": 1.0},
        }

    async def _post(self, path: str, body: dict[str, Any], *, counts: bool = True) -> Any:
        self.calls += counts
        key = hashlib.sha256(json.dumps([str(self._client.base_url), path, body]).encode()).hexdigest()
        kept = self._cache / key[:2] / f"{key}.json"
        if kept.exists():
            return json.loads(kept.read_text())
        answer = await self._client.post(path, json=body)
        if answer.is_error:
            raise SystemExit(f"the model host answered {answer.status_code}: {answer.text[:500]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        made = kept.with_suffix(f".{os.getpid()}")
        made.write_text(answer.text)
        made.replace(kept)
        return answer.json()


@contextmanager
def embedded_server() -> Iterator[httpx.AsyncHTTPTransport]:
    """The way to a model server of one's own, on a socket of its own, until the end."""
    with tempfile.TemporaryDirectory(prefix="h") as folder:
        socket = Path(folder) / "m.sock"
        process = subprocess.Popen([sys.executable, "-m", "hearth_local.models", "--socket", str(socket)])
        try:
            ends = time.monotonic() + START_SECONDS
            while not socket.exists():
                if process.poll() is not None or time.monotonic() > ends:
                    raise SystemExit("the embedded model server did not start")
                time.sleep(0.05)
            yield httpx.AsyncHTTPTransport(uds=str(socket))
        finally:
            process.terminate()
            process.wait()
