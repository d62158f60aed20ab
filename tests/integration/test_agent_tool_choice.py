"""The tool-calling engine on the embedded model, which has no native tool calls."""

import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from agent_service.tool import ToolSpec
from agent_service.tool_choice import NativeAnswer
from agent_service.tool_chooser import choose_tools
from hearth_runtime.tasks import Turn
from system.waiting import eventually


class EmbeddedModel:
    """The embedded chat and embedding models as the engine asks them."""

    native = False

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def complete(self, messages: Sequence[Turn], *, schema: dict[str, Any], max_tokens: int, purpose: str) -> str:
        body = {
            "model": "smollm2:135m",
            "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
            "format": schema,
            "stream": False,
            "options": {"temperature": 0, "seed": 1, "num_predict": max_tokens},
        }
        answer = await self._client.post("/api/chat", json=body)
        return str(answer.raise_for_status().json()["message"]["content"])

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        answer = await self._client.post("/api/embed", json={"model": "multilingual-e5-small", "input": list(texts)})
        vectors: list[list[float]] = answer.raise_for_status().json()["embeddings"]
        return vectors

    async def call_tools(self, messages: Sequence[Turn], tools: Sequence[ToolSpec]) -> NativeAnswer:
        raise AssertionError("it has no native tool calls")


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[EmbeddedModel]:
    """A model server of its own."""
    with tempfile.TemporaryDirectory(prefix="h") as folder:
        path = Path(folder) / "m.sock"
        process = subprocess.Popen([sys.executable, "-m", "hearth_local.models", "--socket", str(path)])  # noqa: ASYNC220
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://models", timeout=100) as client:

            async def answers() -> bool:
                try:
                    return (await client.get("/")).text == "Ollama is running"
                except httpx.TransportError:
                    return False

            await eventually(answers, seconds=60, what="the model server")
            yield EmbeddedModel(client)
        process.terminate()
        process.wait()


def tool(name: str, description: str, **properties: dict[str, Any]) -> ToolSpec:
    """A tool all of whose arguments are required."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return ToolSpec(name=name, description=description, parameters=parameters, repeatable=True)


TOOLS = [
    tool("get_weather", "Tells the weather in a city.", city={"type": "string", "description": "The city."}),
    tool(
        "loan_payment",
        "Calculates the monthly payment of a loan.",
        amount={"type": "integer", "description": "The amount of the loan in dollars."},
        years={"type": "integer", "description": "The number of years."},
    ),
    tool(
        "paint_wall",
        "Paints a wall in a colour.",
        colour={"type": "string", "enum": ["red", "green", "blue"], "description": "The colour."},
    ),
]


@pytest.mark.parametrize(
    ("question", "calls"),
    [
        ("What is the weather in Oslo?", [("get_weather", {"city": "Oslo"})]),
        ("What is the weather in Oslo and in Rome?", [("get_weather", {"city": c}) for c in ("Oslo", "Rome")]),
        (
            "The monthly payment for a loan of $1.5M over 10 years?",
            [("loan_payment", {"amount": 1_500_000, "years": 10})],
        ),
        ("Paint the wall blue, please.", [("paint_wall", {"colour": "blue"})]),
        ("Who wrote the first novel about a white whale?", []),
    ],
)
async def test_the_right_tool_with_the_right_arguments(
    model: EmbeddedModel, question: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    choice = await choose_tools([Turn(role="user", content=question)], TOOLS, model)
    assert [(call.name, call.arguments) for call in choice.calls] == calls


async def test_what_the_question_does_not_say_the_model_does(model: EmbeddedModel) -> None:
    choice = await choose_tools([Turn(role="user", content="Paint a wall in some colour.")], TOOLS, model)
    assert [call.name for call in choice.calls] == ["paint_wall"]
    assert choice.calls[0].arguments["colour"] in ("red", "green", "blue")
