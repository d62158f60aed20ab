"""What a client of the public contract does, over HTTP and WebSocket."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from system.waiting import eventually

MODEL = "smollm2:135m"
FINAL = ("completed", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class ServerSentEvent:
    """One event of an SSE stream."""

    id: str
    event: str
    data: dict[str, Any]


async def parse_sse(lines: AsyncIterator[str]) -> AsyncGenerator[ServerSentEvent]:
    """The events of a stream, as https://html.spec.whatwg.org/multipage/server-sent-events.html reads it."""
    last_id, kind = "", ""
    data: list[str] = []
    async for line in lines:
        if line == "":
            if data:
                yield ServerSentEvent(id=last_id, event=kind or "message", data=json.loads("\n".join(data)))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "id":
                last_id = value
            case "event":
                kind = value
            case "data":
                data.append(value)


class Client:
    """A client of one instance."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=30, trust_env=False)

    async def create_agent(self, **fields: Any) -> dict[str, Any]:
        """A new agent: `name` and `model_name` have defaults, the rest is the caller's."""
        body = {"name": "helper", "model_name": MODEL, **fields}
        answer = await self.http.post("/agents/create", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def run(self, agent_id: str, prompt: str = "Name three colours.", **fields: Any) -> str:
        """Starts a run; returns the task's id."""
        body = {"agent_id": agent_id, "input": {"prompt": prompt}, **fields}
        answer = await self.http.post("/agents/run", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    async def task(self, task_id: str) -> dict[str, Any]:
        """The task now."""
        answer = await self.http.get(f"/tasks/{task_id}/status")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def wait(self, task_id: str, *, status: tuple[str, ...] = FINAL, seconds: float = 60) -> dict[str, Any]:
        """The task, once it is in one of these states."""

        async def reached() -> dict[str, Any]:
            task = await self.task(task_id)
            return task if task["status"] in status else {}

        return await eventually(reached, seconds=seconds, what=f"task {task_id} {'/'.join(status)}")

    @asynccontextmanager
    async def stream(
        self, task_id: str, *, after: str | None = None, **params: str
    ) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """The task's events as they come."""
        headers = {"Last-Event-ID": after} if after else {}
        async with self.http.stream("GET", f"/logs/stream/{task_id}", headers=headers, params=params) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            async with aclosing(parse_sse(answer.aiter_lines())) as events:
                yield events

    async def events(self, task_id: str, *, after: str | None = None, **params: str) -> list[ServerSentEvent]:
        """All the task's events, once it has ended; the last is `end`."""
        async with self.stream(task_id, after=after, **params) as stream:
            return [event async for event in stream]

    async def told(self, task_id: str) -> list[dict[str, Any]]:
        """What the events of a task that has ended say, as its history will have them: that is a moment behind."""
        return [event.data for event in await self.events(task_id) if event.event not in ("delta", "end")]

    async def all_pages(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """The items of every page."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self.http.get(path, params={**params, **({"cursor": cursor} if cursor else {})})
            assert page.status_code == 200, page.text
            items.extend(page.json()["items"])
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return items
