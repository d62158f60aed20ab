"""Each scenario breaks something while work goes on, then asks the checker what came of it."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
from fakes.ollama import FakeOllama
from hearth_runtime.events import EVENTS_STREAM
from hearth_test_workflows import STEPS
from log_service.watermark import WRITERS_GROUP
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from system.waiting import eventually

from chaos.checker import Verdict, check
from chaos.conftest import FULL
from chaos.fleet import Fleet, can_mount
from chaos.knowledge import MODEL, check_documents, check_facts, check_recalls, check_sessions, file_text
from chaos.load import Load
from chaos.report import Entry, Report
from chaos.script import REVISED, SUMMARY, fact, found

type NewFleet = Callable[..., Fleet]

SEED = 20261124
DRAIN_SECONDS = 150.0
END_POLL_SECONDS = 0.2  # a list of tasks costs what half a run does
BOATS = 3  # that a user tells of in a run: three facts
# What a worker left is soon taken up, and tried again before long.
SOON_AGAIN = {
    "HEARTH_LEASE_SECONDS": "3",
    "HEARTH_LEASE_HEARTBEAT_SECONDS": "0.5",
    "HEARTH_RETRY_CAP_SECONDS": "8",
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much goes on, and for how long it is disturbed."""

    short: int
    long: int
    seconds: float


USUAL = Size(short=200, long=20, seconds=50) if FULL else Size(short=40, long=6, seconds=12)


class Scene:
    """A fleet with load on it."""

    def __init__(self, fleet: Fleet, load: Load, chance: random.Random) -> None:
        self.fleet = fleet
        self.load = load
        self.chance = chance
        self._watching: list[asyncio.Task[object]] = []

    async def start_runs(self, size: Size) -> None:
        """Starts short and long runs over the time of the disturbance, and follows some of them."""
        quick = await self.load.create_agent(model_name="quick", config={"max_retries": 10})
        steps = {"workflow": "test.steps", "max_retries": 10}
        slow = await self.load.create_agent(model_name="slow", config=steps)
        kinds = [slow] * size.long + [quick] * size.short
        self.chance.shuffle(kinds)
        for number, agent_id in enumerate(kinds):
            task_id = await self.load.run(agent_id)
            if agent_id == slow or number % 4 == 0:
                self.watch(task_id)
            await asyncio.sleep(size.seconds * 0.8 / len(kinds))

    def watch(self, task_id: str, *, drops: int = 0) -> None:
        """Follows the task, and goes away by itself so many times."""
        drop_after = [self.chance.randint(1, 15) for _ in range(drops)]
        self._watching.append(asyncio.create_task(self.load.watch(task_id, drop_after=drop_after)))

    async def until_ended(self, *, seconds: float = DRAIN_SECONDS) -> None:
        """Waits until all that was accepted has ended and the subscribers know it; what has not by then, the checker
        finds."""
        deadline = time.monotonic() + seconds

        async def none_is_left() -> bool:
            going = await self.load.get("/tasks", status="pending,running,waiting", limit=1)
            return not going["items"] or time.monotonic() > deadline

        await eventually(none_is_left, seconds=seconds + 60, what="the end of all runs", poll_seconds=END_POLL_SECONDS)
        if self._watching:
            await asyncio.wait(self._watching, timeout=max(20.0, deadline - time.monotonic()))
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def verdict(self) -> Verdict:
        """What came of it, once the events are kept."""
        await self._until_persisted()
        return await check(self.fleet, self.load)

    async def _until_persisted(self) -> None:
        """Each task's end is kept, and no batch is left with a log-service that was killed: another takes it over."""
        sql = "SELECT count(*) FROM task_logs WHERE kind = 'status' AND context->>'status' = ANY($1)"

        async def probe() -> bool:
            connection = await asyncpg.connect(self.fleet.database_url)
            try:
                ends = await connection.fetchval(sql, ["completed", "failed", "cancelled"])
                waiting = await connection.fetchval("SELECT count(*) FROM tasks WHERE end_unsettled")
            finally:
                await connection.close()
            return bool(ends >= len(self.load.accepted) and waiting == 0 and await self._taken() == 0)

        # What is never kept, the checker finds.
        try:
            await eventually(probe, seconds=30, what="the last events")
        except AssertionError as error:
            print(error)

    async def _taken(self) -> int:
        """How many events a log-service has taken and not kept."""
        async with Redis.from_url(self.fleet.redis_url) as redis:
            try:
                return int((await redis.xpending(EVENTS_STREAM, WRITERS_GROUP))["pending"])
            except ResponseError:  # there is no group: Redis was flushed
                return 0


@asynccontextmanager
async def scene(new_fleet: NewFleet, **options: object) -> AsyncIterator[Scene]:
    fleet = await asyncio.to_thread(new_fleet, **options)
    chance = random.Random(SEED)
    load = Load(fleet.url, chance=chance)
    try:
        yield Scene(fleet, load, chance)
    finally:
        await load.close()


async def disturbed(scene: Scene, size: Size, disturb: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs under the disturbance, then in peace until all have ended."""
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.start_runs(size))
        group.create_task(disturb())
    await scene.fleet.healthy()
    await scene.until_ended()


@pytest.mark.timeout(600)
async def test_workers_are_killed_all_the_time(new_fleet: NewFleet, report: Report) -> None:
    async with scene(new_fleet, workers=4, env={} if FULL else SOON_AGAIN) as here:

        async def kill_workers() -> None:
            ends_at = time.monotonic() + USUAL.seconds
            while time.monotonic() < ends_at:
                name = here.chance.choice(here.fleet.workers)
                here.fleet.kill(name)
                here.fleet.start_again(name)
                await asyncio.sleep(1)

        await disturbed(here, USUAL, kill_workers)
        verdict = await here.verdict()
        what = "SIGKILL of a random worker every second, with the default lease of 12 seconds."
        report.add(Entry(title="workers killed", what=what, verdict=verdict, kills=len(here.fleet.kills)))
        verdict.hold()
        assert verdict.recoveries
        if FULL:
            assert max(verdict.recoveries) < 20


@pytest.mark.timeout(600)
async def test_workers_are_killed_while_agents_use_tools(new_fleet: NewFleet, report: Report) -> None:
    size = Size(short=0, long=26, seconds=16) if FULL else Size(short=0, long=10, seconds=8)
    async with scene(new_fleet, workers=3, env=SOON_AGAIN) as here:
        agent_id = await here.load.create_agent(model_name="caller", config={"workflow": "tools", "max_retries": 10})
        await here.load.post(f"/agents/{agent_id}/tools", {"tool_name": "note"})

        async def start_runs() -> None:
            for _ in range(size.long):
                here.watch(await here.load.run(agent_id))
                await asyncio.sleep(size.seconds * 0.8 / size.long)

        async def kill_workers() -> None:
            ends_at = time.monotonic() + size.seconds
            while time.monotonic() < ends_at:
                await asyncio.sleep(1)
                name = here.chance.choice(here.fleet.workers)
                here.fleet.kill(name)
                here.fleet.start_again(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(start_runs())
            group.create_task(kill_workers())
        await here.fleet.healthy()
        await here.until_ended()
        verdict = await here.verdict()
        what = "SIGKILL of a random worker every second while agents call two tools three times, then answer."
        report.add(Entry(title="agents with tools", what=what, verdict=verdict, kills=len(here.fleet.kills)))
        verdict.hold()
        calls = Counter(line.split()[0] for line in here.fleet.notes.read_text().splitlines())
        assert all(calls[task_id] >= 6 for task_id in here.load.accepted), "calls are missing"


@pytest.mark.timeout(600)
async def test_workers_and_services_are_killed_while_tasks_wait(new_fleet: NewFleet, report: Report) -> None:
    asking, nesting, seconds = (26, 14, 16.0) if FULL else (8, 4, 8.0)
    env = {**SOON_AGAIN, "HEARTH_WORKER_CONCURRENCY": "2"}
    async with scene(new_fleet, workers=2, env=env) as here:
        load, fleet = here.load, here.fleet
        asker = await load.create_agent(model_name="quick", config={"workflow": "test.asks", "max_retries": 10})
        nester = await load.create_agent(model_name="quick", config={"workflow": "test.nest", "max_retries": 10})
        done = asyncio.Event()

        async def start_runs() -> None:
            kinds = [(asker, "go")] * asking + [(nester, "2")] * nesting
            here.chance.shuffle(kinds)
            for agent_id, prompt in kinds:
                here.watch(await load.run(agent_id, prompt))
                await asyncio.sleep(seconds * 0.5 / len(kinds))

        async def answer() -> None:
            while not done.is_set():
                await load.answer_questions()
                await asyncio.sleep(0.1)

        async def kill() -> None:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                await asyncio.sleep(1)
                name = here.chance.choice((*fleet.workers, *fleet.workers, "agent", "storage"))
                fleet.kill(name)
                fleet.start_again(name)

        answering = asyncio.create_task(answer())
        async with asyncio.TaskGroup() as group:
            group.create_task(start_runs())
            group.create_task(kill())
        await fleet.healthy()
        await here.until_ended()
        done.set()
        await answering
        verdict = await here.verdict()
        connection = await asyncpg.connect(fleet.database_url)
        rows = await connection.fetch("SELECT agent_id, status, output ->> 'text' AS text FROM tasks ORDER BY depth")
        await connection.close()
        what = (
            "SIGKILL of workers, of agent-service and of storage-service while tasks wait for answers, and for two "
            "levels of sub-tasks on four places of workers."
        )
        notes = [f"{len(rows) - len(load.accepted)} sub-tasks"]
        report.add(Entry(title="tasks that wait", what=what, verdict=verdict, kills=len(fleet.kills), notes=notes))
        verdict.hold()
        assert Counter(row["status"] for row in rows) == {"completed": asking + 7 * nesting}
        texts = Counter(row["text"] for row in rows if str(row["agent_id"]) == nester)
        assert texts == {"((..)(..))": nesting, "(..)": 2 * nesting, ".": 4 * nesting}
        told = {row["text"] for row in rows if str(row["agent_id"]) == asker}
        assert told == {"\n".join(f"{name}:ask" for name in STEPS)}


@pytest.mark.timeout(600)
async def test_workers_and_services_are_killed_while_agents_learn(
    new_fleet: NewFleet, report: Report, models: FakeOllama
) -> None:
    files, paragraphs, users, runs, seconds = (8, 24, 6, 4, 20.0) if FULL else (3, 16, 3, 3, 5.0)
    keepers, keeps = (4, 2) if FULL else (2, 1)
    env = {**SOON_AGAIN, "HEARTH_EMBEDDING_MODEL": MODEL}
    texts = {f"{n}.md": file_text(n, paragraphs=paragraphs) for n in range(files)}
    async with scene(new_fleet, workers=3, env=env) as here:
        load, fleet = here.load, here.fleet
        memory = {"scope": "user", "extract": True, "recall": 3}
        config = {"memory": memory, "context_tokens": 512, "max_retries": 10}
        agent_id = await load.create_agent(model_name="scripted", config=config)
        for name in ("disturbed", "peaceful"):
            await load.send("/collections", {"name": name, "chunk_tokens": 32})
        keeper = await load.create_agent(model_name="keeper", config={"workflow": "tools", "max_retries": 10})
        await load.send(f"/agents/{keeper}/tools", {"tool_name": "remember", "tool_config": {"scope": "user"}})
        await load.send(f"/agents/{keeper}/tools", {"tool_name": "recall"})
        requests_before = len(models.requests[MODEL])
        told: dict[str, dict[str, str]] = {f"user {n}": {} for n in range(users)}
        sessions = {user: str(uuid4()) for user in told}
        kept: dict[str, str] = {}
        said: dict[str, list[str]] = {session_id: [] for session_id in sessions.values()}

        async def tell(user: str, number: int) -> None:
            session_id = sessions[user]
            boats = [10 * number + n for n in range(BOATS)]
            prompt = " ".join(map(fact, boats))
            task_id = await load.run(agent_id, prompt, session_id=session_id, user=user)
            here.watch(task_id)
            said[session_id].append(prompt)
            told[user] |= {found(boat): task_id for boat in boats}

        async def tell_all() -> None:
            for number in range(runs - 1):
                for place, user in enumerate(sessions):
                    await tell(user, 100 * (place + 1) + number)
                    await asyncio.sleep(seconds * 0.7 / (users * runs))

        async def keep_all() -> None:
            for boat in range(keepers * keeps):
                user = f"keeper {boat % keepers}"
                task_id = await load.run(keeper, fact(boat), user=user)
                here.watch(task_id)
                kept[task_id] = found(boat)
                told.setdefault(user, {})[found(boat)] = task_id
                await asyncio.sleep(seconds * 0.7 / (keepers * keeps))

        async def upload_all() -> None:
            for name, data in texts.items():
                here.watch(await load.upload(name, data, collection="disturbed"))
                # The same content again is the same document.
                await load.upload(name, data, collection="disturbed")
                await asyncio.sleep(seconds * 0.7 / files)

        async def kill() -> None:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                await asyncio.sleep(1)
                name = here.chance.choice((*fleet.workers, *fleet.workers, "agent", "storage", "log"))
                fleet.kill(name)
                fleet.start_again(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(tell_all())
            group.create_task(keep_all())
            group.create_task(upload_all())
            group.create_task(kill())
        await fleet.healthy()
        await here.until_ended()
        # A summary that died with its worker is made at the end of the session's next run.
        for place, user in enumerate(sessions):
            await tell(user, 100 * (place + 1) + runs - 1)
        await here.until_ended()

        async def are_summarised() -> bool:
            found_now = [await load.get(f"/sessions/{session_id}") for session_id in said]
            return all(session["summary"] == SUMMARY for session in found_now)

        await eventually(are_summarised, seconds=30, what="a summary of each session")
        requests = models.requests[MODEL][requests_before:]
        for name, data in texts.items():
            await load.upload(name, data, collection="peaceful")
        await here.until_ended()
        verdict = await here.verdict()
        chunks = await check_documents(
            verdict, fleet, names=list(texts), disturbed="disturbed", peaceful="peaceful", requests=requests
        )
        excused = await check_facts(verdict, fleet, told)
        await check_recalls(verdict, fleet, kept)
        await check_sessions(verdict, fleet, said)
        what = (
            "SIGKILL of workers and of agent-, storage- and log-service while documents are uploaded (each twice) and "
            "read, while runs keep facts of their users in sessions that grow until they are summarised, and while "
            "agents remember a fact by tool and recall it by another. Each document then has the chunks and vectors "
            "that it has when read in peace, none embedded again but where an attempt was cut off; each fact is there "
            "once; each recall finds what was remembered before it; each session has all its turns and a summary."
        )
        notes = [
            f"{files} documents in {chunks} chunks",
            f"{users * runs * BOATS} facts of {users} users; {excused} runs said that they could not keep theirs",
            f"{len(kept)} facts remembered and recalled by tools",
        ]
        report.add(Entry(title="agents that learn", what=what, verdict=verdict, kills=len(fleet.kills), notes=notes))
        verdict.hold()
        assert chunks > files * 16, "the documents fit into a batch: nothing was tested"


@pytest.mark.timeout(600)
async def test_workers_and_services_are_killed_while_agents_plan(new_fleet: NewFleet, report: Report) -> None:
    count, seconds = (8, 20.0) if FULL else (2, 5.0)
    async with scene(new_fleet, workers=3, env=SOON_AGAIN) as here:
        load, fleet = here.load, here.fleet
        member = await load.create_agent(model_name="scripted", config={"max_retries": 10})
        more: dict[str, dict[str, Any]] = {"plan": {}, "team": {"agents": [member]}, "reflect": {}}
        agents = {
            workflow: await load.create_agent(
                model_name="scripted", config={"workflow": workflow, "max_retries": 10, **fields}
            )
            for workflow, fields in more.items()
        }
        kinds = [workflow for workflow in agents for _ in range(count)]
        here.chance.shuffle(kinds)
        runs: dict[str, str] = {}
        forks: dict[str, str] = {}
        replays: dict[str, str] = {}

        async def start_runs() -> None:
            for workflow in kinds:
                task_id = await load.run(agents[workflow], "draft")
                runs[task_id] = workflow
                here.watch(task_id)
                await asyncio.sleep(seconds * 0.5 / len(kinds))
            for task_id in list(runs):
                fork = await load.send(f"/tasks/{task_id}/fork", {})
                forks[str(fork["task_id"])] = runs[task_id]
                load.accepted.append(str(fork["task_id"]))
                here.watch(str(fork["task_id"]))
                await asyncio.sleep(seconds * 0.2 / len(kinds))

        async def replay_runs() -> None:
            for task_id in runs:
                replay = await load.send(f"/tasks/{task_id}/replay", {})
                replays[str(replay["task_id"])] = task_id
                load.accepted.append(str(replay["task_id"]))
                here.watch(str(replay["task_id"]))
                await asyncio.sleep(seconds * 0.2 / len(kinds))

        async def kill(names: tuple[str, ...], *, seconds: float, every: float) -> None:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                await asyncio.sleep(every)
                name = here.chance.choice(names)
                fleet.kill(name)
                fleet.start_again(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(start_runs())
            names = (*fleet.workers, *fleet.workers, "agent", "storage")
            group.create_task(kill(names, seconds=seconds, every=1))
        await fleet.healthy()
        await here.until_ended()
        async with asyncio.TaskGroup() as group:
            group.create_task(replay_runs())
            # A replay asks nobody, and so is over soon.
            group.create_task(kill(tuple(fleet.workers), seconds=seconds * 0.3, every=0.3))
        await fleet.healthy()
        await here.until_ended()
        verdict = await here.verdict()
        connection = await asyncpg.connect(fleet.database_url)
        rows = await connection.fetch("SELECT id, agent_id, output::text AS output FROM tasks")
        await connection.close()
        outputs = {str(row["id"]): orjson.loads(row["output"] or b"{}") for row in rows}
        sub_tasks = Counter(str(row["agent_id"]) for row in rows)[member]
        what = (
            "SIGKILL of workers, of agent-service and of storage-service while agents plan, hand the steps of a plan "
            "to another agent, and revise their answer, and while each of these runs is forked; then of workers "
            "while each is replayed."
        )
        notes = [f"{sub_tasks} sub-tasks, {len(forks)} forks, {len(replays)} replays"]
        report.add(Entry(title="agents that plan", what=what, verdict=verdict, kills=len(fleet.kills), notes=notes))
        verdict.hold()
        for task_id, workflow in (*runs.items(), *forks.items()):
            output = outputs[task_id]
            if workflow == "reflect":
                assert (output["text"], output["revisions"]) == (REVISED, 1)
            else:
                assert [(s["id"], s["state"]) for s in output["steps"]] == [(1, "done"), (2, "done"), (3, "done")]
        for task_id, run_id in replays.items():
            same = {"identical": True, "first_difference": None}
            assert outputs[task_id] == {**outputs[run_id], "replay": same}
        assert sub_tasks == 2 * count * 3, "each step of a team's plan is one sub-task"


@pytest.mark.full_chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("names", [("gateway", "agent", "inference", "storage", "log"), ("redis",), ("postgresql",)])
async def test_everything_else_is_killed(new_fleet: NewFleet, report: Report, names: tuple[str, ...]) -> None:
    size = Size(short=200, long=20, seconds=50 if len(names) > 1 else 20)
    async with scene(new_fleet) as here:

        async def start_again(name: str) -> None:
            await asyncio.sleep(here.chance.uniform(0.5, 3))
            await asyncio.to_thread(here.fleet.start_again, name)

        async def kill_in_turn() -> None:
            ends_at = time.monotonic() + size.seconds
            async with asyncio.TaskGroup() as group:
                while time.monotonic() < ends_at:
                    for name in names:
                        await asyncio.sleep(here.chance.uniform(1, 3) if len(names) > 1 else 4)
                        here.fleet.kill(name)
                        group.create_task(start_again(name))

        await disturbed(here, size, kill_in_turn)
        verdict = await here.verdict()
        title = "services killed" if len(names) > 1 else f"{names[0]} killed"
        what = f"SIGKILL of {', '.join(names)} in turn; each starts again after 0.5 to 3 seconds, so two may be away."
        report.add(Entry(title=title, what=what, verdict=verdict, kills=len(here.fleet.kills)))
        verdict.hold()


@pytest.mark.timeout(300)
async def test_redis_is_flushed(new_fleet: NewFleet, report: Report) -> None:
    size = Size(short=80, long=16, seconds=14) if FULL else Size(short=20, long=6, seconds=6)
    async with scene(new_fleet) as here, Redis.from_url(here.fleet.redis_url) as redis:

        async def flush() -> None:
            for _ in range(3):
                await asyncio.sleep(size.seconds / 4)
                await redis.flushall()

        await disturbed(here, size, flush)
        verdict = await here.verdict()
        what = "FLUSHALL three times while runs go on: doorbells, the event stream and its groups are gone."
        report.add(Entry(title="Redis flushed", what=what, verdict=verdict, kills=3))
        # What was in Redis alone is gone with it, and no promise covers that; but all ends, and streams end.
        ends = [line for line in verdict.events_lost if "its end" in line or "the stream's end" in line]
        replace(verdict, events_lost=ends, lines_lost=[]).hold()


@pytest.mark.timeout(300)
async def test_the_model_host_goes_away(new_fleet: NewFleet, report: Report, models: FakeOllama) -> None:
    env = {
        "HEARTH_MODEL_BREAKER_FAILURES": "3",
        "HEARTH_MODEL_BREAKER_FIRST_SECONDS": "0.5",
        "HEARTH_MODEL_BREAKER_MAX_SECONDS": "1",
        "HEARTH_RETRY_CAP_SECONDS": "3",
    }
    async with scene(new_fleet, env=env) as here:
        steps = {"workflow": "test.steps", "max_retries": 10}
        agent_id = await here.load.create_agent(model_name="slow", config=steps)
        for _ in range(8):
            here.watch(await here.load.run(agent_id))

        async def said() -> str:
            health = await here.load.get("/health")
            return str(health["dependencies"]["ollama"]["detail"])

        async def is_left_alone() -> bool:
            return "breaker open" in await said()

        async def is_asked_again() -> bool:
            return "breaker closed" in await said()

        rounds = 2 if FULL else 1
        for _ in range(rounds):
            await asyncio.sleep(1)
            await models.stop()
            await eventually(is_left_alone, what="an open breaker")
            await asyncio.sleep(2 if FULL else 1)
            await models.start()
            await eventually(is_asked_again, what="a closed breaker")
        await here.until_ended()
        verdict = await here.verdict()
        what = "The model host is gone in mid-answer and comes back; its circuit breaker opens and closes again."
        report.add(Entry(title="model host away", what=what, verdict=verdict, kills=rounds))
        verdict.hold()
        assert verdict.attempts > verdict.tasks, "no run met the absence: nothing was tested"


@pytest.mark.timeout(300)
async def test_a_worker_that_was_stopped_comes_back(new_fleet: NewFleet, report: Report) -> None:
    async with scene(new_fleet, workers=2, env=SOON_AGAIN) as here:
        steps = {"workflow": "test.steps", "max_retries": 10}
        agent_id = await here.load.create_agent(model_name="slow", config=steps)
        for _ in range(8):
            here.watch(await here.load.run(agent_id))
        rounds = 2 if FULL else 1
        for _ in range(rounds):
            for name in here.fleet.workers:
                await asyncio.sleep(1)
                here.fleet.kill(name, signal.SIGSTOP)
                await asyncio.sleep(5)
                here.fleet.kill(name, signal.SIGCONT)
        await here.until_ended()
        verdict = await here.verdict()
        what = "Each worker in turn is stopped by SIGSTOP for longer than its lease, then goes on by SIGCONT: late."
        report.add(Entry(title="workers stopped", what=what, verdict=verdict, kills=len(here.fleet.kills)))
        verdict.hold()
        assert verdict.attempts > verdict.tasks, "no lease was lost: nothing was tested"


@pytest.mark.timeout(300)
async def test_subscribers_drop_and_resume_while_log_service_restarts(new_fleet: NewFleet, report: Report) -> None:
    subscribers, seconds = (50, 18.0) if FULL else (16, 10.0)
    async with scene(new_fleet) as here:
        steps = {"workflow": "test.steps", "max_retries": 10}
        agent_id = await here.load.create_agent(model_name="slow", config=steps)
        tasks = [await here.load.run(agent_id) for _ in range(10)]
        for number in range(subscribers):
            here.watch(tasks[number % len(tasks)], drops=20)

        async def restart_log() -> None:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                await asyncio.sleep(here.chance.uniform(1, 3))
                number = here.chance.choice((signal.SIGTERM, signal.SIGKILL))
                await asyncio.to_thread(here.fleet.restart, "log", number)

        await restart_log()
        await here.fleet.healthy()
        await here.until_ended()
        verdict = await here.verdict()
        what = f"{subscribers} subscribers go away at random and resume with their last id; log-service restarts below."
        report.add(Entry(title="subscribers", what=what, verdict=verdict, kills=len(here.fleet.kills)))
        verdict.hold()
        assert verdict.connections > subscribers * 2


@pytest.mark.full_chaos
@pytest.mark.timeout(600)
async def test_a_rolling_restart_under_load(new_fleet: NewFleet, report: Report) -> None:
    size = Size(short=200, long=20, seconds=35)
    async with scene(new_fleet, env={"HEARTH_GRACE_SECONDS": "10"}) as here:
        took: dict[str, float] = {}

        async def restart_all() -> None:
            await asyncio.sleep(3)
            for name in (*here.fleet.workers, "agent", "inference", "log", "storage", "gateway"):
                took[name] = await asyncio.to_thread(here.fleet.restart, name)
                await here.fleet.healthy()

        await disturbed(here, size, restart_all)
        verdict = await here.verdict()
        slowest = max(took, key=lambda name: took[name])
        notes = [
            f"the slowest to end was {slowest}: {took[slowest]:.1f} s, with HEARTH_GRACE_SECONDS=10",
            f"what clients repeated, by answer: {dict(here.load.refusals.counts) or 'nothing'}",
        ]
        what = "SIGTERM to each process in turn, which is started again when it has ended."
        report.add(Entry(title="rolling restart", what=what, verdict=verdict, kills=len(here.fleet.kills), notes=notes))
        verdict.hold()
        assert took[slowest] < 11
        connection = await asyncpg.connect(here.fleet.database_url)
        retried = await connection.fetchval("SELECT count(*) FROM tasks WHERE retry_count > 0")
        await connection.close()
        assert retried == 0, "a restart in good order is no retry"


@pytest.mark.full_chaos
@pytest.mark.timeout(600)
async def test_the_disk_of_the_database_fills(new_fleet: NewFleet, report: Report) -> None:
    if not can_mount():
        pytest.skip("not run: mounting a small tmpfs for PostgreSQL needs root")
    async with scene(new_fleet, database_folder_size="160m") as here:
        load = here.load
        agent_id = await load.create_agent(model_name="quick", config={"max_retries": 10})
        balloon = here.fleet.home.data / "postgresql" / "balloon"
        refused: Counter[str] = Counter()

        async def submit(count: int) -> None:
            for _ in range(count):
                body = {"agent_id": agent_id, "input": {"prompt": "x" * 20_000}}
                answer = await load.post("/agents/run", body)
                if answer.status_code == 202:
                    load.accepted.append(answer.json()["task_id"])
                else:
                    refused[f"{answer.status_code} {answer.json()['code']}: {answer.json()['detail']}"] += 1

        await submit(30)
        await asyncio.to_thread(fill, balloon)
        await submit(300)
        during = dict(refused)
        balloon.unlink()
        if not here.fleet.runs("postgresql"):
            await asyncio.to_thread(here.fleet.start_again, "postgresql")
        await here.fleet.healthy()
        before = len(load.accepted)
        for _ in range(30):
            await load.run(agent_id)
        await here.until_ended()
        verdict = await here.verdict()
        notes = [
            f"{sum(during.values())} runs refused while the disk was full: {during}",
            f"{len(load.accepted) - before} runs accepted when there was room again",
        ]
        what = "PostgreSQL's data are on a tmpfs of 160 MB that is filled while runs are started, then has room again."
        report.add(Entry(title="disk full", what=what, verdict=verdict, notes=notes))
        verdict.hold()
        assert during, "the disk was never full: nothing was tested"
        assert all(text.startswith(("503", "504")) for text in during)


def fill(path: object) -> None:
    """Writes until there is no room."""
    with open(str(path), "wb") as file:
        try:
            while True:
                file.write(bytes(1024 * 1024))
                file.flush()
        except OSError:
            pass


@pytest.mark.full_chaos
@pytest.mark.timeout(900)
async def test_ten_thousand_tasks_wait(new_fleet: NewFleet, report: Report) -> None:
    many, few, agents = 9_100, 100, 9
    env = {"HEARTH_WORKER_CONCURRENCY": "16", "HEARTH_MODEL_CONCURRENCY": "64", "HEARTH_LOG_LEVEL": "WARNING"}
    async with scene(new_fleet, workers=2, env=env) as here:
        load, fleet = here.load, here.fleet
        for name in fleet.workers:
            fleet.kill(name)
        first = await load.create_agent(model_name="terse", config={"max_retries": 10})
        others = [await load.create_agent(model_name="terse", config={"max_retries": 10}) for _ in range(agents)]
        idle = fleet.memory()
        started = time.monotonic()
        await submitted(load, [first] * many)
        await submitted(load, others * few)
        accepted_seconds = time.monotonic() - started
        peak = dict(idle)
        started = time.monotonic()
        for name in fleet.workers:
            fleet.start_again(name)

        async def measured() -> None:
            while True:
                for name, size in (await asyncio.to_thread(fleet.memory)).items():
                    peak[name] = max(peak.get(name, 0), size)
                await asyncio.sleep(2)

        measuring = asyncio.create_task(measured())
        await here.until_ended(seconds=420)
        seconds = time.monotonic() - started
        measuring.cancel()
        verdict = await here.verdict()

        connection = await asyncpg.connect(fleet.database_url)
        rows = await connection.fetch("SELECT agent_id FROM tasks ORDER BY started_at")
        await connection.close()
        order = [str(row["agent_id"]) for row in rows]
        last = {agent_id: place for place, agent_id in enumerate(order)}
        worst = max(last[agent_id] for agent_id in others)
        notes = [
            f"accepted {len(load.accepted)} in {accepted_seconds:.0f} s, done {seconds:.0f} s after workers came",
            f"of {agents} agents with {few} tasks behind one with {many}, the last task began as number {worst + 1}",
            "memory, MiB, idle and most: "
            + ", ".join(f"{name} {idle.get(name, 0):.0f} / {peak[name]:.0f}" for name in sorted(peak)),
        ]
        what = "10,000 tasks of ten agents wait, 9,100 of them one agent's that came first; then two workers start."
        report.add(Entry(title="ten thousand tasks", what=what, verdict=verdict, notes=notes))
        verdict.hold()
        assert worst < (agents + 1) * few * 1.5, "agents do not take turns"
        for name, size in peak.items():
            if name != "postgresql":
                assert size < 400, f"{name} grew to {size:.0f} MiB"


async def submitted(load: Load, agent_ids: list[str]) -> None:
    """Starts these runs, 32 at a time, in about this order."""
    waiting = iter(agent_ids)

    async def client() -> None:
        for agent_id in waiting:
            await load.run(agent_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(32):
            group.create_task(client())
