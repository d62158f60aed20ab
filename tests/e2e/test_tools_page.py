"""docs/tools.md: its walk, as a reader pastes it, its kind of tool, and tools of these kinds in runs."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

from fakes.ollama import Behaviour, FakeOllama, called
from system.client import Client
from system.instance import Instance

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tools.md").read_text()


async def test_the_walk(hearth: Instance) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu", "-o", "pipefail", "-c", block),
        env={**os.environ, "HEARTH": hearth.url, "no_proxy": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    said = out.decode()
    assert "notes/todo.txt is written: 8 bytes." in said
    assert "notes/todo.txt:1: buy milk" in said
    assert "A path must not contain `..`" in said
    assert "no public address and is not named in `private`" in said
    assert f"HTTP 200 {hearth.url}/health" in said
    assert f"HTTP 200 {hearth.url}/api/v1/models" in said


async def test_a_kind_of_ones_own(client: Client) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert block == (ROOT / "tests" / "workflows" / "hearth_test_tools.py").read_text()
    agent = await client.create_agent()
    made = await client.http.post(
        f"/agents/{agent['id']}/tools", json={"tool_name": "dice", "name": "coin", "tool_config": {"sides": 2}}
    )
    assert made.status_code == 201, made.text
    tried = await client.http.post("/tools/coin/try", json={"agent_id": agent["id"], "arguments": {"count": 10}})
    rolled = tried.json()["data"]["rolled"]
    assert len(rolled) == 10
    assert set(rolled) <= {1, 2}
    wrong = await client.http.post(
        f"/agents/{agent['id']}/tools", json={"tool_name": "dice", "tool_config": {"sides": 1}}
    )
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_argument")


async def results_of(client: Client, tool: dict[str, Any], prompt: str, **fields: Any) -> list[dict[str, Any]]:
    """The results of tools in a run of an agent that has this one."""
    config = {"workflow": "tools", "temperature": 0, "max_tokens": 48}
    agent = await client.create_agent(config=config, **fields)
    answer = await client.http.post(f"/agents/{agent['id']}/tools", json=tool)
    assert answer.status_code == 201, answer.text
    task_id = await client.run(agent["id"], prompt)
    task = await client.wait(task_id, seconds=120)
    assert task["status"] == "completed", task
    return [item for item in await client.told(task_id) if item["kind"] == "tool_result"]


async def test_a_run_that_requests_a_page(client: Client, hearth: Instance, fake_ollama: FakeOllama) -> None:
    url = f"{hearth.url}/health/live"
    native = ("completion", "tools")
    asked = Behaviour(
        pieces=(),
        capabilities=native,
        tool_calls=(called("http_request", url=url), called("http_request", url="http://169.254.169.254/latest/")),
        after_results=(Behaviour(pieces=("It lives.",), capabilities=native),) * 2,
    )
    fake_ollama.behave("reader:1b", asked)
    config = {"allow": [f"{hearth.url}/", "169.254.169.254"], "private": ["127.0.0.0/8"]}
    tool = {"tool_name": "http_request", "tool_config": config}
    results = await results_of(client, tool, "Does Hearth live?", model_name="reader:1b")
    said = sorted(item["message"] for item in results)
    assert said[0].startswith("169.254.169.254 is at 169.254.169.254, which is no public address")
    assert said[1].startswith(f"HTTP 200 {url}")


async def test_a_run_that_lists_files(client: Client) -> None:
    results = await results_of(
        client, {"tool_name": "files", "tool_config": {"tools": ["files_list"]}}, "List the files in the top directory."
    )
    assert results[0]["context"]["tool"] == "files_list"
