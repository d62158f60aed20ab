"""Queues of their own: what waits in one takes nothing from another, and Hearth's own agent is nobody else's."""

from datetime import timedelta
from typing import Any

import pytest
from hearth.agent.v1 import agent_pb2
from hearth.storage.v1 import agent_store_pb2, task_store_pb2
from hearth_runtime.agents import DOCUMENTS_AGENT_ID
from hearth_runtime.codec import duration
from hearth_runtime.errors import AgentReserved, NoTaskWaits

LEASE = duration(timedelta(seconds=30))


@pytest.fixture(autouse=True)
async def nothing_waits(storage: Any) -> None:
    await storage.empty_queue()


async def claim(storage: Any, queue: str) -> Any:
    request = task_store_pb2.ClaimTaskRequest(worker_id="w", lease=LEASE, queue=queue)
    return (await storage.tasks.ClaimTask(request)).task


async def due(storage: Any, queue: str) -> list[str]:
    request = task_store_pb2.TakeDueTasksRequest(limit=10, ring_again_after=duration(timedelta()), queue=queue)
    return [found.task.id for found in (await storage.tasks.TakeDueTasks(request)).due_tasks]


async def test_a_claim_takes_only_what_waits_in_its_queue(storage: Any) -> None:
    document = await storage.new_task(agent_id=DOCUMENTS_AGENT_ID)
    with pytest.raises(NoTaskWaits):
        await claim(storage, "")
    run = await storage.new_task()
    claimed = await claim(storage, "runs")
    assert (claimed.id, claimed.queue) == (run, "runs")
    claimed = await claim(storage, "documents")
    assert (claimed.id, claimed.queue) == (document, "documents")


async def test_a_sweep_finds_what_is_due_in_its_queue(storage: Any) -> None:
    document, run = await storage.new_task(agent_id=DOCUMENTS_AGENT_ID), await storage.new_task()
    assert await due(storage, "runs") == [run]
    assert await due(storage, "documents") == [document]
    await claim(storage, "documents")
    await storage.sql("UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE id = $1", document)
    assert document not in await due(storage, "runs")
    assert await due(storage, "documents") == [document]


async def test_reading_a_document_outlives_more_lost_workers_than_a_run(storage: Any) -> None:
    document = await storage.new_task(agent_id=DOCUMENTS_AGENT_ID)
    for _ in range(10):
        assert (await claim(storage, "documents")).id == document
        await storage.sql("UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE id = $1", document)
        assert await due(storage, "documents") == [document]
    (row,) = await storage.sql("SELECT status, retry_count FROM tasks WHERE id = $1", document)
    assert (row["status"], row["retry_count"]) == ("pending", 10)


async def test_hearths_own_agent_is_neither_listed_nor_changed(storage: Any) -> None:
    answer = await storage.agents.ListAgents(agent_store_pb2.ListAgentsRequest(page_size=500))
    assert DOCUMENTS_AGENT_ID not in [agent.id for agent in answer.agents]
    changed = agent_pb2.Agent(id=DOCUMENTS_AGENT_ID, name="mine", model_name="m")
    with pytest.raises(AgentReserved):
        await storage.agents.UpdateAgent(agent_store_pb2.UpdateAgentRequest(agent=changed))
    with pytest.raises(AgentReserved):
        await storage.agents.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=DOCUMENTS_AGENT_ID))
    agent = (await storage.agents.GetAgent(agent_store_pb2.GetAgentRequest(id=DOCUMENTS_AGENT_ID))).agent
    assert (agent.name, agent.config.workflow, agent.is_active) == ("documents", "ingest", True)


async def test_an_agent_names_its_queue_and_its_tasks_wait_there(storage: Any) -> None:
    agent_id = await storage.new_agent(config=agent_pb2.AgentConfig(queue="long"))
    first = await storage.new_task(agent_id=agent_id)
    with pytest.raises(NoTaskWaits):
        await claim(storage, "runs")
    changed = agent_pb2.Agent(id=agent_id, name="n", model_name="m", is_active=True)
    agent = (await storage.agents.UpdateAgent(agent_store_pb2.UpdateAgentRequest(agent=changed))).agent
    assert not agent.config.HasField("queue")
    second = await storage.new_task(agent_id=agent_id)
    assert (await claim(storage, "runs")).id == second
    # What was accepted before stays where it is.
    assert (await claim(storage, "long")).id == first


async def test_the_queues_are_those_in_which_something_waits_or_runs(storage: Any) -> None:
    async def queues() -> list[str]:
        return sorted((await storage.tasks.ListQueues(task_store_pb2.ListQueuesRequest())).queues)

    await storage.sql("DELETE FROM tasks")
    assert await queues() == []
    for name in ("zeta", "alpha", "alpha"):
        await storage.new_task(agent_id=await storage.new_agent(config=agent_pb2.AgentConfig(queue=name)))
    assert await queues() == ["alpha", "zeta"]
    await claim(storage, "zeta")
    assert await queues() == ["alpha", "zeta"]


async def test_an_agent_in_a_queue_of_its_own_is_as_any_other(storage: Any) -> None:
    agent_id = await storage.new_agent(config=agent_pb2.AgentConfig(queue="long"))
    answer = await storage.agents.ListAgents(agent_store_pb2.ListAgentsRequest(page_size=500))
    assert agent_id in [agent.id for agent in answer.agents]
    await storage.agents.DeactivateAgent(agent_store_pb2.DeactivateAgentRequest(id=agent_id))
