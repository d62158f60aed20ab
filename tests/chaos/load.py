"""What users do meanwhile: they start runs and follow them, as clients of the public contract."""

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from system.client import ServerSentEvent, parse_sse

CONNECT_SECONDS = 5.0
READ_SECONDS = 40.0  # heartbeats come every 15
RETRY_SECONDS = 0.2
# What a client may meet while parts of Hearth are away, and answers by trying again.
PASSING = (httpx.TransportError,)
PASSING_STATUS = (429, 502, 503, 504)


@dataclass(kw_only=True)
class Watched:
    """What one subscriber saw of a task."""

    task_id: str
    events: list[ServerSentEvent] = field(default_factory=list)
    end: str = ""
    connections: int = 0

    @property
    def ids(self) -> list[str]:
        """The ids of all it saw, in the order in which it saw them."""
        return [event.id for event in self.events]


@dataclass(kw_only=True)
class Refusals:
    """Answers that a client got and repeated its request after, by what they were."""

    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        """One more."""
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts.values())


class Load:
    """Clients of the Hearth at `url`. `accepted` has every task that was answered with 202."""

    def __init__(self, url: str, *, chance: random.Random) -> None:
        limits = httpx.Limits(max_connections=None)
        timeout = httpx.Timeout(30, connect=CONNECT_SECONDS)
        self._http = httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=timeout, limits=limits, trust_env=False)
        self._chance = chance
        self.accepted: list[str] = []
        self.watched: list[Watched] = []
        self.refusals = Refusals()
        # Errors that no repetition mends: there must be none.
        self.failures: list[str] = []

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def create_agent(self, **fields: Any) -> str:
        """A new agent; its id."""
        answer = await self._request("POST", "/agents/create", json={"name": "chaos", **fields})
        return str(answer["id"])

    async def run(self, agent_id: str, prompt: str = "go", **fields: Any) -> str:
        """Starts a run, as often as it takes until it is accepted; an idempotency key keeps it one run."""
        body = {"agent_id": agent_id, "input": {"prompt": prompt}, **fields}
        answer = await self._request("POST", "/agents/run", json=body, headers={"Idempotency-Key": uuid4().hex})
        task_id = str(answer["task_id"])
        self.accepted.append(task_id)
        return task_id

    async def upload(self, name: str, data: bytes, *, collection: str) -> str:
        """Uploads a file, as often as it takes: the same content is the same document. The task that reads it."""
        form = {"collection": collection}
        answer = await self._request("POST", "/documents", files={"file": (name, data)}, data=form)
        task_id = str(answer["task_id"])
        if task_id not in self.accepted:
            self.accepted.append(task_id)
        return task_id

    async def send(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Sends as often as it takes: for what is harmless to repeat."""
        return await self._request("POST", path, json=body)

    async def answer_questions(self) -> None:
        """Answers every question that a run waits for now, as often as it takes; the same answer again is harmless."""
        waiting = await self.get("/tasks", status="waiting", limit=500)
        for task in waiting["items"]:
            results = [{"id": p["id"], "output": p["id"]} for p in task["pending"] if p["kind"] == "question"]
            if results:
                await self._request("POST", f"/tasks/{task['id']}/resume", json={"results": results})

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Sends once, and gives whatever is answered."""
        return await self._http.post(path, json=body)

    async def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Reads, as often as it takes."""
        return await self._request("GET", path, params=params)

    async def watch(self, task_id: str, *, drop_after: Iterable[int] = ()) -> Watched:
        """Follows a task to its end, and connects again with the last id it saw whenever the connection is gone.

        It also goes away by itself, after so many events each time, as long as `drop_after` gives numbers.
        """
        watched = Watched(task_id=task_id)
        self.watched.append(watched)
        drops = iter(drop_after)
        while not watched.end:
            watched.connections += 1
            with suppress(*PASSING):
                await self._watch_once(watched, next(drops, None))
            if not watched.end:
                await asyncio.sleep(self._chance.uniform(0, RETRY_SECONDS))
        return watched

    async def _watch_once(self, watched: Watched, drop_after: int | None) -> None:
        headers = {"Last-Event-ID": watched.events[-1].id} if watched.events else {}
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        path = f"/logs/stream/{watched.task_id}"
        async with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
            if answer.status_code in PASSING_STATUS:
                self.refusals.count(f"stream {answer.status_code}")
                return
            if answer.status_code != 200:
                self.failures.append(f"GET {path}: {answer.status_code} {(await answer.aread()).decode()}")
                watched.end = "refused"
                return
            seen = 0
            async for event in parse_sse(answer.aiter_lines()):
                match event.event:
                    case "end":
                        watched.end = event.data["status"]
                        return
                    case "error":
                        self.refusals.count("stream error")
                        return
                watched.events.append(event)
                seen += 1
                if seen == drop_after:
                    return

    async def _request(self, method: str, path: str, **rest: Any) -> dict[str, Any]:
        while True:
            try:
                answer = await self._http.request(method, path, **rest)
            except PASSING as error:
                self.refusals.count(type(error).__name__)
            else:
                if answer.is_success:
                    return dict(answer.json())
                if answer.status_code not in PASSING_STATUS:
                    failure = f"{method} {path}: {answer.status_code} {answer.text}"
                    self.failures.append(failure)
                    raise AssertionError(failure)
                self.refusals.count(f"{method} {answer.status_code}")
            await asyncio.sleep(RETRY_SECONDS)
