"""The workflow `reflect` over real storage and Redis, with a model that says what a test wrote down."""

import asyncio
from typing import Any

import pytest
from agent_service.reflect_workflow import ReflectWorkflow
from fakes.models import Asked, Reply, ScriptedModels
from hearth.agent.v1 import agent_pb2
from hearth_runtime.errors import ModelOutputInvalid, ModelRefused
from hearth_runtime.tasks import Task
from servers.agent_bench import Bench


class Critic:
    """Drafts, and finds the first `wrong` drafts wrong by the criterion that is asked about first."""

    def __init__(self, *, wrong: int) -> None:
        self._wrong = wrong
        self._drafts = 0

    def __call__(self, asked: Asked) -> Reply:
        if asked.output_schema is not None:
            is_wrong = "It is short." in asked.text and self._drafts <= self._wrong
            return {"problem": "too long" if is_wrong else "", "met": not is_wrong}
        self._drafts += 1
        return f"draft {self._drafts}"


async def run(bench: Bench, models: ScriptedModels, **config: Any) -> Task:
    bench.models = models
    criteria = ["It is short.", "It is polite."]
    agent_id = await bench.storage.new_agent(config=agent_pb2.AgentConfig(criteria=criteria, **config))
    task_id = await bench.storage.new_task(agent_id=agent_id)
    _, running = await bench.run_task(task_id, ReflectWorkflow())
    await running
    return await bench.stored.get(task_id)


async def test_a_draft_is_revised_until_it_meets_the_criteria(bench: Bench) -> None:
    models = ScriptedModels(Critic(wrong=1))
    task = await run(bench, models)
    assert task.output is not None
    assert (task.status, task.output["text"]) == ("completed", "draft 2")
    assert (task.output["revisions"], task.output["problems"]) == (1, [])
    assert "ended_by" not in task.output
    # Two drafts, each held against two criteria, of 10 + 5 tokens each.
    usage = task.output["usage"]
    assert (usage["model_calls"], usage["prompt_tokens"], usage["completion_tokens"]) == (6, 60, 30)
    revising = models.asked[3]
    assert "It is short. too long" in revising.text
    assert "draft 1" in revising.text
    # A verdict has no tokens to spare for thoughts.
    assert [asked.think for asked in models.asked] == [None, False, False, None, False, False]
    calls = [call for call, _ in await bench.messages(task.id)]
    assert sorted(calls[:-1], key=str) == [
        "critique:0:0", "critique:0:1", "critique:1:0", "critique:1:1", "draft", "revise:1",
    ]  # fmt: skip
    assert (await bench.messages(task.id))[-1] == (None, "draft 2")


async def test_a_draft_that_never_meets_them_is_the_answer_and_says_so(bench: Bench) -> None:
    task = await run(bench, ScriptedModels(Critic(wrong=9)), max_revisions=1)
    assert task.output is not None
    assert (task.status, task.output["text"], task.output["ended_by"]) == ("completed", "draft 2", "revisions")
    assert task.output["problems"] == ["It is short. too long"]


async def test_no_call_goes_on_after_one_beside_it_has_failed(bench: Bench) -> None:
    class Slow(ScriptedModels):
        """Refuses one criterion at once, and takes its time for the other."""

        async def chat(self, agent: Any, messages: Any, **options: Any) -> Any:
            text = "".join(message.content for message in messages)
            if "It is short." in text:
                raise ModelRefused("Not this one.")
            if "It is polite." in text:
                await asyncio.sleep(0.3)
            async for piece in super().chat(agent, messages, **options):
                yield piece

    task = await run(bench, Slow(Critic(wrong=0)))
    assert (task.status, task.error_code) == ("failed", "model_refused")
    await asyncio.sleep(0.4)
    assert (await bench.events(task.id))[-1].context["status"] == "failed"


@pytest.mark.parametrize(
    ("budget", "ended_by"),
    [({"max_steps": 3}, "steps"), ({"max_model_tokens": 40}, "model_tokens"), ({"max_seconds": 1e-9}, "seconds")],
)
async def test_a_budget_ends_it_with_the_best_draft_so_far(bench: Bench, budget: Any, ended_by: str) -> None:
    task = await run(bench, ScriptedModels(Critic(wrong=9)), budget=agent_pb2.Budget(**budget))
    assert task.output is not None
    assert (task.status, task.output["ended_by"]) == ("completed", ended_by)
    assert task.output["text"].startswith("draft")


async def test_an_output_schema_holds_for_its_drafts(bench: Bench) -> None:
    schema = '{"type": "object", "required": ["n"]}'
    broken = iter([True, False])

    def reply(asked: Asked) -> Reply:
        if asked.output_schema is not None and "problem" in asked.output_schema.get("properties", {}):
            return {"problem": "", "met": True}
        return ModelOutputInvalid("n is missing") if next(broken) else {"n": 1}

    models = ScriptedModels(reply)
    task = await run(bench, models, output_schema=schema)
    assert task.output is not None
    assert task.output["data"] == {"n": 1}
    assert "n is missing" in models.asked[1].text


async def test_an_answer_that_stays_invalid_fails_with_its_reason(bench: Bench) -> None:
    models = ScriptedModels(lambda _: ModelOutputInvalid("n is missing"))
    task = await run(bench, models, output_schema='{"type": "object"}', max_retries=0)
    assert (task.status, task.error_code, task.error_message) == ("failed", "model_output_invalid", "n is missing")
    assert len(models.asked) == 3
