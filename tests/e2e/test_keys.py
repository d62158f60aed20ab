"""Keys through the whole system: one owner's ids tried with another's key, on every route that there is."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from system.client import FINAL, MODEL
from system.instance import Instance
from system.waiting import eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

ALL = "agents:read,agents:write,runs:write,logs:read"
SECRET = "marigold-7731"
# These have nothing of anybody's in them, or make something of the caller's own.
OF_NOBODY = {"get_health", "get_live", "get_metrics", "list_models", "list_tool_kinds", "create_ticket"}


def admin(home: Path, *arguments: str) -> str:
    """What hearth-admin prints."""
    command = str(Path(sys.executable).with_name("hearth-admin"))
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("HEARTH_")}, "HEARTH_HOME": str(home)}
    ran = subprocess.run([command, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who has a key."""

    http: httpx.AsyncClient
    secret: str
    prefix: str

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """What a call gives that is answered well."""
        answer = await self.http.request(method, path, **options)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer.json()

    async def until_ended(self, task_id: str) -> Any:
        """The task as it ended."""

        async def ended() -> Any:
            task = await self.json("GET", f"/tasks/{task_id}/status")
            return task if task["status"] in FINAL else None

        return await eventually(ended, seconds=60, what="a run ended")


@pytest.fixture(scope="module")
async def closed(short_folder: Path, model_server: str) -> AsyncIterator[Instance]:
    """An instance that asks for keys."""
    env = {"OLLAMA_URL": model_server, "HEARTH_LOGIN": "required", "HEARTH_KEY_CACHE_SECONDS": "1"}
    instance = Instance(short_folder / "closed", env=env)
    await asyncio.to_thread(instance.start)
    yield instance
    instance.kill()


async def holder(closed: Instance, name: str, *arguments: str) -> Holder:
    """Somebody with a new key."""
    printed = await asyncio.to_thread(admin, closed.home, "keys", "create", name, "--json", *arguments)
    made = json.loads(printed)
    headers = {"Authorization": f"Bearer {made['secret']}"}
    http = httpx.AsyncClient(base_url=closed.api, headers=headers, timeout=30, trust_env=False)
    return Holder(http=http, secret=made["secret"], prefix=made["prefix"])


@pytest.fixture(scope="module")
async def ann(closed: Instance) -> AsyncIterator[Holder]:
    made = await holder(closed, "ann", "--scopes", ALL)
    yield made
    await made.http.aclose()


@pytest.fixture(scope="module")
async def bob(closed: Instance) -> AsyncIterator[Holder]:
    made = await holder(closed, "bob", "--scopes", ALL)
    yield made
    await made.http.aclose()


@pytest.fixture(scope="module")
async def hers(ann: Holder) -> dict[str, str]:
    """One of everything that is Ann's, by the names of the parameters that name it."""
    agent = await ann.json(
        "POST",
        "/agents/create",
        json={"name": SECRET, "model_name": MODEL, "description": SECRET, "config": {"max_tokens": 8}},
    )
    agent_id = agent["id"]
    tool = await ann.json("POST", f"/agents/{agent_id}/tools", json={"tool_name": "calculator", "name": "sums"})
    memory = await ann.json(
        "POST", f"/agents/{agent_id}/memories", json={"content": f"The word is {SECRET}.", "scope": "agent"}
    )
    await ann.json("POST", "/collections", json={"name": "anns", "description": SECRET})
    document = await ann.json(
        "POST", "/documents", data={"collection": "anns"}, files={"file": ("a.txt", f"The word is {SECRET}.")}
    )
    session_id = "01900000-0000-7000-8000-00000000a111"
    run = await ann.json(
        "POST", "/agents/run", json={"agent_id": agent_id, "session_id": session_id, "input": {"prompt": SECRET}}
    )
    await ann.until_ended(run["task_id"])
    return {
        "agent_id": agent_id,
        "tool_id": tool["id"],
        "memory_id": memory["memory"]["id"],
        "name": "anns",
        "document_id": document["document"]["id"],
        "session_id": session_id,
        "task_id": run["task_id"],
    }


async def seen(who: Holder, document: Any, hers: dict[str, str]) -> dict[str, Any]:
    """All that `who` reads of hers, by path."""
    found = {}
    for path, item in document["paths"].items():
        if "get" in item and "{" in path and "stream" not in path and "content" not in path:
            url = filled(path, hers).removeprefix("/api/v1")
            answer = await who.http.get(url)
            found[url] = (answer.status_code, re.sub(r'"(latency_ms|duration_seconds)":[0-9.e-]+', "", answer.text))
    return found


def filled(path: str, hers: dict[str, str]) -> str:
    return re.sub(r"\{([^}]+)\}", lambda found: hers.get(found[1], hers["task_id"]), path)


def body_of(operation: Any, hers: dict[str, str]) -> Any:
    """An example of the operation's body, in which ids are hers; None where it takes none."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    examples = content.get("examples") or content["schema"].get("examples") or {}
    first = next(iter(examples.values()))["value"] if isinstance(examples, dict) and examples else {}
    body = dict(first)
    for name, value in hers.items():
        if name != "name" and name in body:
            body[name] = value
    if "collections" in body:
        body["collections"] = [hers["name"]]
    return body


def needed(operation: Any) -> dict[str, str]:
    """The query parameters that it does not do without."""
    return {
        parameter["name"]: parameter["schema"].get("enum", ["x"])[0]
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and parameter.get("required")
    }


async def test_no_route_tells_or_does_anything_with_anothers_ids(
    closed: Instance, ann: Holder, bob: Holder, hers: dict[str, str]
) -> None:
    document = await bob.json("GET", "/openapi.json")
    before = await seen(ann, document, hers)
    assert all(status == 200 for status, _ in before.values()), before
    tried = 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            operation_id = operation["operationId"]
            if operation_id in OF_NOBODY:
                continue
            options: dict[str, Any] = {"params": needed(operation)}
            if operation_id == "upload_document":
                options |= {"data": {"collection": hers["name"]}, "files": {"file": ("b.txt", "x")}}
            elif (body := body_of(operation, hers)) is not None:
                options |= {"json": body}
            answer = await bob.http.request(method, filled(path, hers).removeprefix("/api/v1"), **options)
            tried += 1
            what = (operation_id, answer.status_code, answer.text[:500])
            assert SECRET not in answer.text, what
            if "{" in path and operation_id not in ("try_tool",):
                assert answer.status_code == 404, what
            if operation_id in ("run_agent", "upload_document", "search"):
                assert answer.status_code == 404, what
    assert tried > 45
    for query in ("agent_id", "parent_task_id", "task_id", "session_id"):
        for path in ("/tasks", "/sessions", "/logs/history", "/agents", "/documents", "/collections"):
            value = hers.get(query, hers["task_id"])
            answer = await bob.http.get(path, params={query: value})
            assert SECRET not in answer.text
            assert answer.status_code == 422 or answer.json()["items"] == [] or hers["agent_id"] not in answer.text
    assert (await bob.http.get("/documents", params={"collection": hers["name"]})).json().get("items", []) == []
    # All of it is as it was, and who sees all sees it.
    assert await seen(ann, document, hers) == before
    root = await holder(closed, "root", "--scopes", "admin")
    async with root.http:
        for url, (status, _) in (await seen(root, document, hers)).items():
            assert status == 200, url


async def frames(socket: Any) -> AsyncIterator[dict[str, Any]]:
    """What comes until the socket is closed, or says nothing for a while."""
    try:
        while True:
            yield json.loads(await asyncio.wait_for(socket.recv(), 3))
    except (ConnectionClosed, TimeoutError):
        return


async def test_no_socket_or_stream_tells_of_anothers_runs(
    closed: Instance, ann: Holder, bob: Holder, hers: dict[str, str]
) -> None:
    url = closed.api.replace("http", "ws")
    headers = {"Authorization": f"Bearer {bob.secret}"}
    assert (await bob.http.get(f"/logs/stream/{hers['task_id']}")).status_code == 404
    async with connect(f"{url}/ws/tasks/{hers['task_id']}", additional_headers=headers, proxy=None) as socket:
        assert SECRET not in str([frame async for frame in frames(socket)])
        assert socket.close_code == 4404
    agent = await bob.json(
        "POST", "/agents/create", json={"name": "own", "model_name": MODEL, "config": {"max_tokens": 4}}
    )
    for wanted in ({}, {"task_ids": [hers["task_id"]]}, {"agent_ids": [hers["agent_id"], agent["id"]]}):
        async with connect(f"{url}/ws/logs", additional_headers=headers, proxy=None) as socket:
            # All that was, and what comes.
            await socket.send(json.dumps({"subscribe": wanted, "after": "0-0"}))
            run = {"agent_id": hers["agent_id"], "input": {"prompt": SECRET}}
            await ann.until_ended((await ann.json("POST", "/agents/run", json=run))["task_id"])
            mine = await bob.json("POST", "/agents/run", json={"agent_id": agent["id"], "input": {"prompt": "hi"}})
            await bob.until_ended(mine["task_id"])
            ended = False
            async for frame in frames(socket):
                assert frame.get("agent_id", agent["id"]) == agent["id"], frame
                assert SECRET not in str(frame)
                ended = frame.get("task_id") == mine["task_id"] and frame["context"].get("status") == "completed"
                if ended:
                    break
            # Of her task nothing came at all.
            assert ended is ("task_ids" not in wanted)


async def test_a_run_finds_its_owners_documents_and_no_others(bob: Holder, hers: dict[str, str]) -> None:
    await bob.json("POST", "/collections", json={"name": "bobs"})
    uploaded = await bob.json(
        "POST", "/documents", data={"collection": "bobs"}, files={"file": ("b.txt", "The colour is teal.")}
    )
    document_id = uploaded["document"]["id"]

    async def ready() -> bool:
        return bool((await bob.json("GET", f"/documents/{document_id}"))["status"] == "ready")

    await eventually(ready, seconds=60, what="a document is read")
    found = await bob.json("POST", "/search", json={"query": f"What is the word {SECRET}?", "limit": 20})
    text = json.dumps(found)
    assert "teal" in text
    assert "The word is" not in text
    assert hers["document_id"] not in text


async def test_a_keys_quota_holds_and_a_revoked_key_is_out(closed: Instance) -> None:
    made = await holder(closed, "few", "--scopes", ALL, "--tasks-per-minute", "2")
    async with made.http:
        agent = await made.json(
            "POST", "/agents/create", json={"name": "few", "model_name": MODEL, "config": {"max_tokens": 4}}
        )
        run = {"agent_id": agent["id"], "input": {"prompt": "hi"}}
        answers = await asyncio.gather(*(made.http.post("/agents/run", json=run) for _ in range(6)))
        assert sorted(a.status_code for a in answers) == [202, 202, 429, 429, 429, 429]
        over = next(a for a in answers if a.status_code == 429)
        assert over.json()["code"] == "quota_exceeded"
        assert 1 <= int(over.headers["retry-after"]) <= 60
        assert over.headers["ratelimit-policy"] == '"tasks_per_minute";q=2;w=60'
        assert made.prefix in admin(closed.home, "keys", "list")
        assert made.secret not in admin(closed.home, "keys", "list", "--json")
        await asyncio.to_thread(admin, closed.home, "keys", "revoke", made.prefix)

        async def is_out() -> bool:
            return (await made.http.get("/agents")).status_code == 401

        await eventually(is_out, seconds=5, what="a revoked key is out")

        async def is_told() -> bool:
            told = await asyncio.to_thread(
                admin, closed.home, "audit", "--actor", f"key:{made.prefix}", "--limit", "500"
            )
            return "POST /api/v1/agents/run" in told and "quota_exceeded" in told

        await eventually(is_told, seconds=10, what="the audit has it")
    assert made.prefix in admin(closed.home, "audit", "--actor", "admin")
