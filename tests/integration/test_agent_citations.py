"""A run that looks something up in documents, with a model that says what a test wrote down; and what it cites."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from agent_service.builtin.search_documents import SearchDocumentsKind
from agent_service.inference import ToolCall
from agent_service.settings import WorkerSettings
from agent_service.storage import StoredAgents
from agent_service.tool import ToolHost, ToolScope
from agent_service.tools_workflow import ToolsWorkflow
from fakes.models import ScriptedModels
from hearth_runtime.errors import InvalidArgument
from hearth_runtime.identifiers import new_id
from redis.asyncio import Redis
from servers.agent_bench import Bench
from servers.document_desk import HANDBOOK, Desk, desk_at

CALL = (ToolCall(name="search_documents", arguments={"query": "cost of a hotel"}),)


@pytest.fixture
async def desk(bench: Bench, redis: Redis, redis_url: str) -> AsyncIterator[Desk]:
    async with desk_at(bench, redis, redis_url) as opened:
        yield opened


@pytest.fixture
async def collection(desk: Desk) -> str:
    """A collection with the handbook in it."""
    made = await desk.documents.create_collection(
        name=f"c{new_id()}", description="", embedding_model=None, chunk_tokens=64
    )
    _, task = await desk.upload(HANDBOOK, collection=made.name, name="handbook.md", year=2026)
    await desk.run(task.id)
    return made.name


def opened(desk: Desk, scope: ToolScope, **config: Any) -> Any:
    settings = WorkerSettings()
    host = ToolHost(settings=settings, storage=desk.bench.storage.channel, inference=desk.bench.inference)
    return SearchDocumentsKind().open(config, scope, host)


async def scope_of(desk: Desk, agent_id: str) -> ToolScope:
    agent = await StoredAgents(desk.bench.storage.channel).get(agent_id)
    return ToolScope(agent=agent, session_id=None, task_id=None, requests=None)


async def answered(desk: Desk, collection: str, *answers: Any) -> tuple[dict[str, Any], ScriptedModels]:
    """The output of a run in which the model says these one after the other, and the model."""
    left = iter(answers)
    agent_id = await desk.bench.storage.new_agent()
    async with opened(desk, await scope_of(desk, agent_id), collections=[collection]) as tools:
        models = ScriptedModels(lambda _: next(left), can=frozenset({"completion", "tools"}))
        desk.bench.models = models
        desk.bench.tools = tools
        task_id = await desk.bench.storage.new_task(agent_id=agent_id, input='{"prompt": "What may a hotel cost?"}')
        _, running = await desk.bench.run_task(task_id, ToolsWorkflow())
        await running
    output = (await desk.bench.stored.get(task_id)).output
    assert output is not None
    return output, models


async def test_an_answer_cites_what_it_was_given(desk: Desk, collection: str) -> None:
    answer = "A hotel costs at most one hundred euros [1]. It has a pool [2]. It is far away [9]."
    output, models = await answered(desk, collection, CALL, answer)
    (citation,) = output["citations"]
    assert (citation["name"], citation["marker"], citation["how"]) == ("handbook.md", 1, "cited")
    start, end = citation["span"]
    assert HANDBOOK.decode()[start:end] == citation["quote"] == "A hotel costs at most one hundred euros a night."
    dropped = [(dropped["marker"], dropped["reason"]) for dropped in output["dropped_citations"]]
    assert dropped == [(2, "not_in_text"), (9, "unknown_marker")]
    assert "[1] handbook.md, Handbook > Travel > Hotels" in models.asked[1].text


async def test_an_answer_without_markers_is_attributed(desk: Desk, collection: str) -> None:
    output, _ = await answered(desk, collection, CALL, "One hundred euros a night is what a hotel costs at most.")
    assert [(c["how"], c["marker"]) for c in output["citations"]] == [("attributed", 1)]


async def test_a_run_that_looked_nothing_up_has_no_citations(desk: Desk, collection: str) -> None:
    output, _ = await answered(desk, collection, "I know that myself.")
    assert "citations" not in output


async def test_the_tool_searches_where_it_was_told_to(desk: Desk, collection: str) -> None:
    scope = await scope_of(desk, await desk.bench.storage.new_agent())
    async with opened(desk, scope, collections=[collection], limit=1) as (tool,):
        result = await tool.call({"query": "holiday"}, call_id="c")
    assert result.content.startswith("[1] handbook.md, Handbook > Holidays\n")
    (chunk,) = result.data["chunks"]
    assert chunk["text"] in result.content
    async with opened(desk, scope, collections=[collection], filter={"year": 1999}) as (tool,):
        nothing = await tool.call({"query": "holiday"}, call_id="c")
    assert (nothing.content, nothing.data) == ("Nothing was found in the documents.", {"chunks": []})
    with pytest.raises(InvalidArgument, match="There is no collection nowhere"):
        async with opened(desk, scope, collections=["nowhere"]):
            pass
