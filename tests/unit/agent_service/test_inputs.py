"""What an agent and an input must be."""

from typing import Any

import pytest
from agent_service.agents import AgentDraft
from agent_service.settings import QueueSettings
from agent_service.tasks import turns_of
from hearth_runtime.agents import AgentConfig
from hearth_runtime.errors import InvalidArgument
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
