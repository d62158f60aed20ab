"""Time travel on the embedded model, through the public contract; and the walk in docs/time-travel.md."""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

from system.client import Client
from system.instance import Instance

PAGE = Path(__file__).parents[2] / "docs" / "time-travel.md"


async def post(client: Client, path: str, body: dict[str, Any] | None = None) -> str:
    """The id of the task that the call starts."""
    answer = await client.http.post(path, json=body) if body is not None else await client.http.post(path)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def test_a_run_is_looked_at_forked_and_replayed(client: Client) -> None:
    agent = await client.create_agent(
        config={"workflow": "reflect", "criteria": ["It names a colour."], "max_revisions": 1, "max_tokens": 16}
    )
    task = await client.wait(await client.run(agent["id"], "Name one colour."))
    assert task["status"] == "completed", task
    path = f"/tasks/{task['id']}"
    checkpoints = await client.all_pages(f"{path}/checkpoints", limit=2)
    assert [c["next"] for c in checkpoints][:2] == [["draft"], ["critique"]]
    assert checkpoints[-1]["next"] == []
    assert checkpoints[-1]["state"]["output"] == task["output"]
    # What cannot be sampled the same twice, at a temperature above 0, is the same in a replay.
    replayed = await client.wait(await post(client, f"{path}/replay"))
    assert replayed["replay_of_task_id"] == task["id"]
    assert replayed["output"] == {**task["output"], "replay": {"identical": True, "first_difference": None}}
    messages = [e.data for e in await client.events(replayed["id"]) if e.data.get("kind") == "message"]
    assert [m["message"] for m in messages][-1] == task["output"]["text"]
    # The agent of today does not matter to it.
    assert (await client.http.delete(f"/agents/{agent['id']}")).status_code == 204
    again = await client.wait(await post(client, f"{path}/replay"))
    assert again["output"]["replay"]["identical"] is True
    refused = await client.http.post(f"{path}/fork")
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_inactive")


async def test_a_fork_lives_its_own_life(client: Client) -> None:
    agent = await client.create_agent(config={"max_tokens": 16})
    task_id = await client.run(agent["id"], "Name one colour.")
    task = await client.wait(task_id)
    draft = (await client.http.get(f"/tasks/{task_id}/checkpoints")).json()["items"][0]
    fork_id = await post(
        client, f"/tasks/{task_id}/fork", {"checkpoint_id": draft["id"], "input": {"prompt": "Name one animal."}}
    )
    fork = await client.wait(fork_id)
    assert (fork["status"], fork["forked_from_task_id"]) == ("completed", task_id)
    assert fork["input"] == {"prompt": "Name one animal."}
    told = await client.wait(
        await post(client, f"/tasks/{fork_id}/fork", {"answers": {"generate": {"text": "An owl."}}})
    )
    assert (told["output"]["text"], told["input"]) == ("An owl.", fork["input"])
    assert await client.task(task_id) == task


async def test_the_walk(hearth: Instance) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu", "-o", "pipefail", "-c", block),
        env={**os.environ, "HEARTH": hearth.url, "no_proxy": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    shown = [json.loads(text) for text in re.split(r"(?<=\})(?=\{)|\n", out.decode()) if text]
    task, checkpoints, fork, told, replay = shown
    assert [c["next"] for c in checkpoints["items"]] == [["generate"], []]
    assert fork["forked_from_task_id"] == task["id"]
    assert told["output"]["text"] == "Red, green, blue."
    assert replay["output"]["replay"] == {"identical": True, "first_difference": None}
