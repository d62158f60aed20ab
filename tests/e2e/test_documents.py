"""Documents on the whole system, with the embedded model: uploaded, read by a worker, found, and deleted."""

import asyncio
import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from hearth_runtime.identifiers import new_id
from system.client import Client
from system.instance import Instance

HANDBOOK = """# Handbook

## Holidays

Everybody has thirty days of paid holiday a year. Days that are left over are lost in March.

## Travel

A train ticket is booked by the office. First class is for trips of more than four hours.

### Hotels

A hotel costs at most one hundred euros a night, breakfast included.
"""


async def upload(client: Client, collection: str, text: str, *, name: str = "handbook.md", **metadata: Any) -> Any:
    """Uploads a document and waits until its task has ended."""
    files = {"file": (name, text.encode(), "text/markdown")}
    answer = await client.http.post("/documents", files=files, data={"collection": collection})
    assert answer.status_code == 202, answer.text
    await client.wait(answer.json()["task_id"])
    return answer.json()


async def test_a_document_is_read_by_a_worker_and_found(client: Client) -> None:
    collection = f"c{new_id()}"
    made = await client.http.post("/collections", json={"name": collection})
    assert made.status_code == 201, made.text
    uploaded = await upload(client, collection, HANDBOOK)
    task = await client.task(uploaded["task_id"])
    assert (task["status"], task["error_message"]) == ("completed", None)
    assert task["input"] == {"document_id": uploaded["document"]["id"]}
    assert task["output"]["data"]["chunks"] == 3
    document = (await client.http.get(f"/documents/{uploaded['document']['id']}")).json()
    assert (document["status"], document["chunk_count"]) == ("ready", 3)

    # None of the words of the question are in the chunk that answers it.
    query = {"query": "What may I spend for accommodation?", "collections": [collection], "limit": 3}
    found = (await client.http.post("/search", json=query)).json()["items"]
    assert found[0]["headings"] == ["Handbook", "Travel", "Hotels"]
    start, end = found[0]["span"]
    assert HANDBOOK[start:end] == found[0]["text"]
    text = await client.http.get(f"/documents/{document['id']}/content", params={"as": "text"})
    assert text.text == HANDBOOK

    steps = [e.data["context"] for e in await client.events(task["id"]) if e.event == "step"]
    assert {"step": "embed", "phase": "progress", "done": 3, "total": 3} in [
        {k: v for k, v in step.items() if k != "model"} for step in steps
    ]
    assert (await client.http.delete(f"/documents/{document['id']}")).status_code == 204
    assert (await client.http.post("/search", json=query)).json()["items"] == []


async def test_a_file_that_cannot_be_read_fails_with_its_reason(client: Client) -> None:
    files = {"file": ("a.pdf", b"%PDF-1.7 garbage", "application/pdf")}
    answer = await client.http.post("/documents", files=files)
    assert answer.status_code == 202, answer.text
    task = await client.wait(answer.json()["task_id"])
    assert (task["status"], task["error_code"]) == ("failed", "document_unreadable")
    document = (await client.http.get(f"/documents/{answer.json()['document']['id']}")).json()
    assert (document["status"], document["collection"]) == ("failed", "default")
    assert "damaged PDF" in document["error_message"]


async def test_hearths_own_agent_is_run_by_uploads_alone(client: Client) -> None:
    files = {"file": ("b.txt", b"one two three", "text/plain")}
    answer = (await client.http.post("/documents", files=files)).json()
    task = await client.wait(answer["task_id"])
    agent_id = task["agent_id"]
    refused = await client.http.post("/agents/run", json={"agent_id": agent_id, "input": {"prompt": "hi"}})
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_reserved")
    assert (await client.http.get(f"/agents/{agent_id}")).json()["name"] == "documents"


async def test_the_walk_of_the_page(client: Client, hearth: Instance, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "documents.md").read_text()
    script = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("http://127.0.0.1:8000", hearth.url)
    ran = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith('{"name":"handbooks",')
    assert '"phase":"progress","done":3,"total":3' in ran.stdout
    assert '"headings":["Handbook","Travel","Hotels"]' in ran.stdout
    run = json.loads(ran.stdout[ran.stdout.rindex('{"id":') :])
    assert run["status"] == "completed", run
    assert run["output"]["usage"]["tool_calls"] >= 1
    assert (
        '"text":"### Hotels\\nA hotel costs at most one hundred euros a night."'
        in (tmp_path / "events.txt").read_text()
    )
    # What a model of this size makes of it is its own affair; that nothing is cited which is not there is not.
    handbook = (tmp_path / "handbook.md").read_text()
    for citation in run["output"]["citations"]:
        start, end = citation["span"]
        assert (citation["name"], handbook[start:end]) == ("handbook.md", citation["quote"])


async def test_files_come_with_a_run(client: Client) -> None:
    agent = await client.create_agent(config={"max_tokens": 16, "temperature": 0})
    notes = base64.b64encode(HANDBOOK.encode()).decode()
    file = {"name": "handbook.md", "media_type": "text/markdown", "data": notes}
    task = await client.wait(await client.run(agent["id"], "Name one topic.", attachments=[file]))
    assert task["status"] == "completed", task
    assert task["input"]["attachments"] == [
        {"name": "handbook.md", "media_type": "text/markdown", "characters": len(HANDBOOK)}
    ]
    # The text was in the prompt: without it there are about twenty tokens.
    assert task["output"]["usage"]["prompt_tokens"] > 100
    image = {"name": "a.png", "data": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()}
    body = {"agent_id": agent["id"], "input": {"prompt": "What is it?"}, "attachments": [image]}
    refused = await client.http.post("/agents/run", json=body)
    assert (refused.status_code, refused.json()["code"]) == (501, "model_lacks_capability")
