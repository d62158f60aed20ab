"""What an agent and an input must be."""

from datetime import UTC, datetime
from typing import Any

import pytest
from agent_service.agents import AgentDraft, Agents
from agent_service.settings import QueueSettings
from agent_service.tasks import turns_of
from hearth_runtime.agents import DOCUMENTS_AGENT_ID, Agent, AgentConfig
from hearth_runtime.errors import AgentNotFound, InvalidArgument
from hearth_runtime.identifiers import new_id
from hearth_runtime.tasks import Turn
from pydantic import ValidationError


def test_a_prompt_is_one_turn_of_the_user() -> None:
    assert turns_of({"prompt": "hi"}) == (Turn(role="user", content="hi"),)


def test_messages_keep_their_order() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert turns_of({"messages": messages}) == (Turn(role="user", content="a"), Turn(role="assistant", content="b"))


@pytest.mark.parametrize(
    ("task_input", "field"),
    [
        ({}, "input"),
        ({"prompt": ""}, "input"),
        ({"prompt": 1}, "input"),
        ({"prompt": "a", "messages": []}, "input"),
        ({"messages": []}, "input"),
        ({"messages": "a"}, "input"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "robot", "content": "b"}]}, "input.messages.1"),
        ({"messages": [{"role": "user"}]}, "input.messages.0"),
    ],
)
def test_anything_else_is_refused_by_field(task_input: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        turns_of(task_input)
    assert [f.field for f in caught.value.fields] == [field]


def test_an_agent_that_could_not_run_is_refused() -> None:
    draft = AgentDraft(name=" ", description="", model_name="", config=AgentConfig(timeout_seconds=-1, max_retries=-1))
    with pytest.raises(InvalidArgument) as caught:
        draft.validate([])
    assert [f.field for f in caught.value.fields] == [
        "name",
        "model_name",
        "config.timeout_seconds",
        "config.max_retries",
    ]


@pytest.mark.parametrize("queue", [None, "runs", "long"])
def test_an_agent_names_one_of_the_queues_that_there_are(queue: str | None) -> None:
    draft = AgentDraft(name="a", description="", model_name="m", config=AgentConfig(queue=queue))
    draft.validate(["runs", "documents", "long"])


@pytest.mark.parametrize("queue", ["lnog", "documents", ""])
def test_a_queue_that_nobody_would_serve_is_refused(queue: str) -> None:
    draft = AgentDraft(name="a", description="", model_name="m", config=AgentConfig(queue=queue))
    with pytest.raises(InvalidArgument, match="must be one of runs, long, which HEARTH_QUEUES") as caught:
        draft.validate(["documents", "long"])
    assert [f.field for f in caught.value.fields] == ["config.queue"]


def test_queues_are_named_with_commas() -> None:
    assert QueueSettings().queue_names == ("runs", "documents")
    assert QueueSettings(queues="long, runs,long").queue_names == ("long", "runs")
    for wrong in ("", "long,", "Long", "a b", "a;b"):
        with pytest.raises(ValidationError):
            QueueSettings(queues=wrong)


class KnownAgents:
    """A store of these agents, all active but `deleted`."""

    def __init__(self, *known: str, deleted: str = "") -> None:
        self._known, self._deleted = known, deleted
        self.kept: list[AgentDraft] = []

    async def get(self, agent_id: str) -> Agent:
        if agent_id not in self._known:
            raise AgentNotFound(f"There is no agent {agent_id}.")
        return self._agent(agent_id)

    async def insert(self, agent_id: str, draft: AgentDraft) -> Agent:
        self.kept.append(draft)
        return self._agent(agent_id)

    async def update(self, agent_id: str, draft: AgentDraft, *, is_active: bool) -> Agent:
        self.kept.append(draft)
        return self._agent(agent_id)

    def _agent(self, agent_id: str) -> Agent:
        now = datetime.now(UTC)
        return Agent(
            id=agent_id,
            name="a",
            description="",
            model_name="m",
            config=AgentConfig(),
            is_active=agent_id != self._deleted,
            created_at=now,
            updated_at=now,
        )


async def test_a_team_of_agents_that_are_there_is_kept() -> None:
    own, other = new_id(), new_id()
    store = KnownAgents(own, other)
    agents = Agents(store, queues=())
    draft = AgentDraft(name="a", description="", model_name="m", config=AgentConfig(agents=(other,)))
    await agents.create(draft)
    await agents.update(own, draft, is_active=True)
    assert store.kept == [draft, draft]


async def test_a_team_is_refused_with_the_place_of_each_that_cannot_be_in_it() -> None:
    own, other, gone, unknown = (new_id() for _ in range(4))
    store = KnownAgents(own, other, gone, deleted=gone)
    agents = Agents(store, queues=())
    members = (other, unknown, gone, DOCUMENTS_AGENT_ID, own.upper())
    draft = AgentDraft(name="a", description="", model_name="m", config=AgentConfig(agents=members))
    with pytest.raises(InvalidArgument, match=r"agents\[1\] is no agent's: There is no agent") as caught:
        await agents.update(own, draft, is_active=True)
    assert [f.field for f in caught.value.fields] == [f"config.agents[{place}]" for place in (1, 2, 3, 4)]
    for wrong, word in zip(caught.value.fields, ("no agent", "deleted", "own", "itself"), strict=True):
        assert word in wrong.message
    with pytest.raises(InvalidArgument):
        await agents.create(draft)
    assert store.kept == []
