"""A graph that makes one streamed call of a model, as Hearth's workflow `chat` does."""

import os
from typing import Any, TypedDict

import httpx
import orjson
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph

CLIENT = httpx.AsyncClient(base_url=os.environ["OLLAMA_URL"], timeout=None, limits=httpx.Limits(max_connections=None))


class State(TypedDict, total=False):
    """What a run is given, and what it ends with."""

    model: str
    prompt: str
    text: str


async def chat(state: State) -> State:
    """Calls the model; each piece goes to those who stream the run."""
    write = get_stream_writer()
    body: dict[str, Any] = {"model": state["model"], "messages": [{"role": "user", "content": state["prompt"]}]}
    pieces = []
    async with CLIENT.stream("POST", "/api/chat", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            piece = orjson.loads(line)["message"]["content"]
            if piece:
                pieces.append(piece)
                write(piece)
    return {"text": "".join(pieces)}


builder = StateGraph(State)
builder.add_node("chat", chat)
builder.add_edge(START, "chat")
builder.add_edge("chat", END)
graph = builder.compile()
