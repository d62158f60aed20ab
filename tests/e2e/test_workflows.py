"""The workflows on the embedded model, through the public contract."""

from system.client import Client


async def test_reflect_drafts_criticises_and_answers(client: Client) -> None:
    agent = await client.create_agent(
        config={
            "workflow": "reflect",
            "criteria": ["It names a colour."],
            "max_revisions": 1,
            "temperature": 0,
            "max_tokens": 24,
        }
    )
    task = await client.wait(await client.run(agent["id"], "Name one colour."))
    assert task["status"] == "completed", task
    output = task["output"]
    assert output["text"]
    # Whether a model of this size likes its own draft is its own affair; that it was asked is not.
    assert output["usage"]["model_calls"] >= 2
    assert output["revisions"] in (0, 1)
    assert ("ended_by" in output) == bool(output["problems"])


async def test_a_budget_of_tokens_ends_a_run_with_what_it_has(client: Client) -> None:
    agent = await client.create_agent(
        config={
            "workflow": "reflect",
            "budget": {"max_model_tokens": 1},
            "temperature": 0,
            "max_tokens": 16,
        }
    )
    task = await client.wait(await client.run(agent["id"], "Name one colour."))
    assert (task["status"], task["output"]["ended_by"]) == ("completed", "model_tokens")
    assert task["output"]["usage"]["model_calls"] == 1


async def test_a_long_session_loses_its_oldest_turns_and_says_so(client: Client) -> None:
    agent = await client.create_agent(config={"context_tokens": 256, "max_tokens": 16, "temperature": 0})
    messages = [
        {"role": "user", "content": "Tell me a long story. " * 80},
        {"role": "assistant", "content": "Once upon a time. " * 80},
        {"role": "user", "content": "Name one colour."},
    ]
    answer = await client.http.post("/agents/run", json={"agent_id": agent["id"], "input": {"messages": messages}})
    task_id = answer.json()["task_id"]
    task = await client.wait(task_id)
    assert task["status"] == "completed", task
    cut = [item["context"] for item in await client.told(task_id) if item["context"].get("code") == "context_cut"]
    assert cut == [{"code": "context_cut", "dropped_messages": 2, "cut_characters": 0}]


async def test_a_question_that_cannot_fit_fails_with_advice(client: Client) -> None:
    agent = await client.create_agent(config={"context_tokens": 128})
    task = await client.wait(await client.run(agent["id"], "Why? " * 400))
    assert (task["status"], task["error_code"]) == ("failed", "invalid_argument")
    assert "context_tokens" in task["error_message"]


async def test_a_plan_is_made_and_done(client: Client) -> None:
    agent = await client.create_agent(
        config={"workflow": "plan", "temperature": 0, "max_tokens": 48, "max_revisions": 0}
    )
    await client.http.post(f"/agents/{agent['id']}/tools", json={"tool_name": "current_time"})
    task = await client.wait(await client.run(agent["id"], "What day is it today?"), seconds=120)
    assert task["status"] == "completed", task
    steps = task["output"]["steps"]
    assert 1 <= len(steps) <= 6
    assert all(step["by"] in ("current_time", "none") for step in steps)
    assert task["output"]["text"]


async def test_a_model_without_tool_calls_uses_a_tool(client: Client) -> None:
    agent = await client.create_agent(config={"workflow": "tools", "temperature": 0, "max_tokens": 48})
    answer = await client.http.post(f"/agents/{agent['id']}/tools", json={"tool_name": "calculator"})
    assert answer.status_code == 201, answer.text
    task_id = await client.run(agent["id"], "What is 12 * 7?")
    task = await client.wait(task_id)
    assert task["status"] == "completed", task
    logs = await client.told(task_id)
    calls = [item["context"] for item in logs if item["kind"] == "tool_call"]
    assert [(call["tool"], call["how"]) for call in calls] == [("calculator", "constrained")]
    assert calls[0]["arguments"] == {"expression": "12 * 7"}
    assert [item["message"] for item in logs if item["kind"] == "tool_result"] == ["84"]
    assert task["output"]["usage"]["tool_calls"] == 1
