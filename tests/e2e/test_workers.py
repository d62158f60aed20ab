"""Two workers share the work."""

from collections import Counter

from fakes.ollama import Behaviour, FakeOllama
from system.client import Client


async def test_two_workers_share_twenty_tasks(client: Client, fake_ollama: FakeOllama) -> None:
    fake_ollama.behave("steady:1b", Behaviour(seconds_before_first=0.3))
    agent = await client.create_agent(model_name="steady:1b")
    ids = [await client.run(agent["id"], f"{n}") for n in range(20)]
    for task_id in ids:
        assert (await client.wait(task_id))["status"] == "completed"
    workers: Counter[str] = Counter()
    for task_id in ids:
        started = [
            e.data["context"]
            for e in await client.events(task_id, kinds="status")
            if e.data.get("message") == "running"
        ]
        assert len(started) == 1
        workers[started[0]["worker"]] += 1
    assert len(workers) == 2
    assert min(workers.values()) >= 4
    prompts = Counter(r.body["messages"][-1]["content"] for r in fake_ollama.requests["steady:1b"])
    assert set(prompts.values()) == {1}
    assert len(prompts) == 20
