"""Documents, collections and search over HTTP."""

import base64
import hashlib
import json
from typing import Any

import pytest
from hearth.agent.v1 import document_pb2, document_service_pb2
from hearth_runtime.documents import PART_BYTES
from hearth_runtime.errors import ModelNotFound, QueueFull
from hearth_runtime.identifiers import new_id
from servers.gateway import World


async def upload(world: World, data: bytes, *, name: str = "a.md", kind: str = "text/markdown", **fields: str) -> Any:
    return await world.http.post("/documents", files={"file": (name, data, kind)}, data=fields)


async def test_a_document_is_sent_on_in_parts_and_accepted(world: World) -> None:
    await world.http.post("/collections", json={"name": "books"})
    data = b"x" * PART_BYTES * 2 + b"end"
    answer = await upload(world, data, name="C:\\folder\\b.md", collection="books", metadata='{"year": 2026}')
    assert answer.status_code == 202, answer.text
    body = answer.json()
    document = body["document"]
    assert answer.headers["location"] == f"/api/v1/documents/{document['id']}"
    assert (body["status"], body["task_id"]) == ("pending", document["task_id"])
    assert body["links"]["stream"] == f"/api/v1/logs/stream/{body['task_id']}"
    expected = {
        "name": "b.md",
        "collection": "books",
        "media_type": "text/markdown",
        "size_bytes": len(data),
        "content_hash": hashlib.sha256(data).hexdigest(),
        "metadata": {"year": 2026},
        "status": "pending",
    }
    assert document.items() >= expected.items()
    parts = world.services.documents.parts[document["id"]]
    assert [len(parts[number]) for number in sorted(parts)] == [PART_BYTES, PART_BYTES, 3]
    assert (await world.http.get(f"/documents/{document['id']}")).json() == document
    content = await world.http.get(f"/documents/{document['id']}/content")
    assert content.content == data
    assert content.headers["content-disposition"] == "attachment; filename*=UTF-8''b.md"
    assert content.headers["x-content-type-options"] == "nosniff"
    text = await world.http.get(f"/documents/{document['id']}/content", params={"as": "text"})
    assert text.text == data.decode().upper()
    listed = (await world.http.get("/documents", params={"collection": "books"})).json()["items"]
    assert listed == [document]
    assert (await world.http.delete(f"/documents/{document['id']}")).status_code == 204
    assert (await world.http.get(f"/documents/{document['id']}")).json()["code"] == "document_not_found"


async def test_the_same_content_is_not_sent_again(world: World) -> None:
    first = (await upload(world, b"same")).json()
    world.services.documents.parts.clear()
    again = await upload(world, b"same", name="other.md")
    assert again.status_code == 202
    assert again.json() == first


@pytest.mark.parametrize(
    ("data", "fields", "field"),
    [
        (b"", {}, "file"),
        (b"x", {"metadata": "[]"}, "metadata"),
        (b"x", {"metadata": "{"}, "metadata"),
        (b"x", {"metadata": '{"a": "' + "x" * 65_536 + '"}'}, "metadata"),
        (b"x", {"collection": "no name"}, "collection"),
        (b"x", {"colection": "books"}, "colection"),
    ],
)
async def test_a_form_that_is_wrong_is_told_which_field(
    world: World, data: bytes, fields: dict[str, str], field: str
) -> None:
    answer = await upload(world, data, **fields)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_what_is_no_form_is_refused(world: World) -> None:
    answer = await world.http.post("/documents", json={"file": "x"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await world.http.post("/documents", content=b"garbage", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_form")
    answer = await world.http.post("/documents", data={"file": "no file"}, files={"other": ("x", b"x")})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "file")


async def test_a_document_may_be_larger_than_other_bodies_and_has_a_bound(world: World) -> None:
    bound = world.settings.max_upload_bytes
    assert bound > world.settings.max_body_bytes
    answer = await upload(world, b"x" * bound)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert str(bound) in answer.json()["detail"]


async def test_an_upload_has_a_longer_deadline_and_each_part_one_of_its_own(world: World) -> None:
    await upload(world, b"x" * (PART_BYTES + 1))
    remaining = world.state.time_remaining["PutDocumentPart"]
    assert remaining is not None
    # gRPC rounds it up a little.
    assert 0 < remaining < world.settings.rpc_timeout_seconds + 0.5


async def test_what_the_service_refuses_is_passed_on(world: World) -> None:
    world.state.failures["BeginDocument"] = QueueFull("Too many.", retry_after_seconds=3)
    answer = await upload(world, b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert (await upload(world, b"x", collection="nowhere")).json()["code"] == "collection_not_found"


async def test_collections_are_made_changed_and_deleted(world: World) -> None:
    made = await world.http.post("/collections", json={"name": "shelf", "embedding_model": "m", "chunk_tokens": 64})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/api/v1/collections/shelf"
    assert made.json().items() >= {"name": "shelf", "embedding_model": "m", "chunk_tokens": 64}.items()
    assert (await world.http.post("/collections", json={"name": "shelf"})).json()["code"] == "collection_exists"
    same = (await world.http.put("/collections/shelf", json={"description": "d", "embedding_model": "m"})).json()
    assert (same["task"], same["collection"]["description"]) == (None, "d")
    changed = (await world.http.put("/collections/shelf", json={"embedding_model": "n"})).json()
    assert changed["collection"]["next_embedding_model"] == "n"
    assert changed["task"]["status"] == "pending"
    assert "shelf" in [c["name"] for c in (await world.http.get("/collections")).json()["items"]]
    assert (await world.http.get("/collections/shelf")).json() == changed["collection"]
    assert (await world.http.delete("/collections/shelf")).status_code == 204
    assert (await world.http.delete("/collections/shelf")).status_code == 404


async def test_a_search_is_passed_on_and_answered(world: World) -> None:
    await world.http.post("/collections", json={"name": "books"})
    document_id = new_id()
    world.services.documents.found = [
        document_pb2.FoundChunk(
            document_id=document_id,
            document_name="a.md",
            collection="books",
            text="t",
            headings=["H"],
            start=3,
            end=4,
            metadata='{"year":2026}',
            score=0.5,
            text_score=0.25,
        )
    ]
    query = {"query": "q", "collections": ["books"], "limit": 3, "filter": {"year": 2026}, "mode": "text"}
    answer = await world.http.post("/search", json=query)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["items"]
    assert found == {
        "document_id": document_id,
        "document_name": "a.md",
        "collection": "books",
        "number": 0,
        "text": "t",
        "headings": ["H"],
        "page": None,
        "span": [3, 4],
        "metadata": {"year": 2026},
        "score": 0.5,
        "vector_score": None,
        "text_score": 0.25,
    }
    request = world.services.documents.searches[-1]
    assert (request.query, list(request.collections), request.limit) == ("q", ["books"], 3)
    assert json.loads(request.filter) == {"year": 2026}
    assert request.mode == document_service_pb2.SearchRequest.MODE_TEXT
    assert (await world.http.post("/search", json={"query": "q"})).status_code == 200
    assert world.services.documents.searches[-1].limit == 10


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"query": ""}, "query"),
        ({"query": "q", "limit": 101}, "limit"),
        ({"query": "q", "mode": "x"}, "mode"),
        ({"query": "q", "filter": []}, "filter"),
        ({"query": "q", "filter": {"a": 2**70}}, "filter"),
        ({"query": "q", "filter": {"a": "x" * 20_000}}, "filter"),
        ({"query": "q", "filters": {}}, "filters"),
    ],
)
async def test_a_query_that_is_wrong_is_told_which_field(world: World, query: Any, field: str) -> None:
    answer = await world.http.post("/search", json=query)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field


async def test_a_search_says_what_the_model_lacks(world: World) -> None:
    world.state.failures["Search"] = ModelNotFound("No model host has it.")
    answer = await world.http.post("/search", json={"query": "q"})
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


async def test_files_of_a_run_are_passed_on_and_not_shown_again(world: World) -> None:
    agent = await world.state.add_agent()
    file = {"name": "a.md", "data": base64.b64encode(b"x" * 2_000_000).decode()}
    body = {"agent_id": agent.id, "input": {"prompt": "hi"}, "attachments": [file]}
    answer = await world.http.post("/agents/run", json=body)
    assert answer.status_code == 202, answer.text
    task = world.state.tasks[answer.json()["task_id"]]
    task.input = json.dumps(
        {
            "prompt": "hi",
            "attachments": [
                {"name": "a.md", "media_type": "text/markdown", "text": "secret"},
                {"name": "a.png", "media_type": "image/png", "image": "AAAA"},
            ],
        }
    )
    shown = (await world.http.get(f"/tasks/{task.id}/status")).json()
    assert shown["input"] == {
        "prompt": "hi",
        "attachments": [
            {"name": "a.md", "media_type": "text/markdown", "characters": 6},
            {"name": "a.png", "media_type": "image/png", "characters": None},
        ],
    }
    file["data"] = "no base64"
    refused = await world.http.post("/agents/run", json=body)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "attachments[0].data")
