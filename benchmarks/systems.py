"""The systems that `speed.py` measures: Hearth, what people build by hand, and Aegra, each on servers of its own.

PostgreSQL and Redis are the same programs with the same settings for each: those of `make run`.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncpg
import orjson
import psutil
from hearth_local import parts
from hearth_local.home import Home
from hearth_local.supervisor import Supervisor
from hearth_runtime.events import EVENT_FIELD, EVENTS_STREAM, Event
from redis.asyncio import Redis

ROOT = Path(__file__).resolve().parents[1]
BASELINES = ROOT / "benchmarks" / "baselines"
STORES = ("postgres", "redis-server")
READY_SECONDS = 90.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until_answers(http: aiohttp.ClientSession, url: str) -> None:
    """Returns when a GET there is answered with 200."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(POLL_SECONDS)


async def connected(folder: Path) -> asyncpg.Connection:
    """A connection to the PostgreSQL whose socket is there, once it takes one."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            with suppress(OSError, asyncpg.CannotConnectNowError):
                return await asyncpg.connect(host=str(folder), user="postgres")
            await asyncio.sleep(POLL_SECONDS)


class Processes:
    """Child processes that end together. What they print goes to a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: list[str], *, env: Mapping[str, str], cwd: Path = ROOT) -> None:
        """Starts one in a process group of its own."""
        foreign = ("HEARTH_", "OLLAMA_", "OTEL_", "PYTHONDONTWRITEBYTECODE")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        with (self._folder / f"{name}.log").open("ab") as output:
            self._running[name] = subprocess.Popen(
                argv, env={**inherited, **env}, cwd=cwd, stdout=output, stderr=output, start_new_session=True
            )

    def stop(self) -> None:
        """Ends them, the last started first, the hard way where they do not end by themselves."""
        for process in reversed(self._running.values()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def show(self) -> None:
        """Prints the last that each has said."""
        for name in self._running:
            said = (self._folder / f"{name}.log").read_text(errors="replace")
            sys.stderr.write(f"--- {name}\n{said[-2000:]}\n")

    def tree(self, name: str) -> list[psutil.Process]:
        """The process of that name, and all below it."""
        top = psutil.Process(self._running[name].pid)
        return [top, *top.children(recursive=True)]


SERVICES = {
    "gateway": "gateway",
    "agent_service": "agent-service",
    "inference_service": "inference-service",
    "log_service": "log-service",
    "storage_service": "storage-service",
}


class System(ABC):
    """One of them, and how to use it. Use it as a context, which starts and ends it."""

    name: str
    database: asyncpg.Connection

    def __init__(self, http: aiohttp.ClientSession, models_url: str, *, slots: int) -> None:
        self.http = http
        self.models_url = models_url
        self.slots = slots
        # Short, since the path of a socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="hb"))
        self.processes = Processes(self.folder)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.agents: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.processes.show()
            await self.stop()
            raise
        return self

    async def __aexit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            self.processes.show()
        await self.stop()

    @abstractmethod
    async def start(self) -> None:
        """Returns when it takes runs."""

    async def stop(self) -> None:
        """Ends it, and deletes its data."""
        await asyncio.to_thread(self.processes.stop)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def port(self) -> int:
        """Of its API."""
        return int(self.url.rpartition(":")[2])

    @abstractmethod
    async def accept(self, prompt: str, model: str) -> str:
        """Starts a run; returns its id once it is accepted."""

    @abstractmethod
    def stream_path(self, run_id: str) -> str:
        """Where the live events of a run are, as server-sent events."""

    @abstractmethod
    async def pieces(self, run_id: str) -> AsyncIterator[str]:
        """The text of the model as it comes, until the run has ended."""
        yield ""

    @abstractmethod
    async def finished(self) -> int:
        """How many runs are completed, with all that is persisted of them."""

    @abstractmethod
    def workers(self) -> list[psutil.Process]:
        """The processes that run agents."""

    @abstractmethod
    def all_processes(self) -> list[psutil.Process]:
        """All of its own, without PostgreSQL and Redis."""

    @abstractmethod
    def stores(self, name: str) -> list[psutil.Process]:
        """The processes of its `postgres` or `redis-server`."""

    def roles(self) -> dict[str, list[psutil.Process]]:
        """All processes by what they do."""
        workers = self.workers()
        return {
            "workers": workers,
            "other services": [process for process in self.all_processes() if process not in workers],
            "PostgreSQL": self.stores("postgres"),
            "Redis": self.stores("redis-server"),
        }

    @abstractmethod
    def redis(self) -> Redis:
        """A client of its Redis."""

    def log_writers(self) -> list[psutil.Process]:
        """The processes that persist log lines."""
        raise NotImplementedError

    def log_entry(self, event: Event) -> tuple[str, dict[Any, Any]]:
        """A log line as its workers publish it: the stream, and the fields of the entry."""
        raise NotImplementedError

    async def post(self, path: str, body: dict[str, Any], *, status: int) -> Any:
        """The answer to a POST, which has this status."""
        async with self.http.post(f"{self.url}{path}", json=body) as answer:
            text = await answer.read()
            if answer.status != status:
                raise RuntimeError(f"{self.name} answered {answer.status} to POST {path}: {text[:500]!r}")
            return orjson.loads(text)

    async def sse(self, path: str) -> AsyncIterator[tuple[str, Any]]:
        """Kind and data of each server-sent event."""
        kind = ""
        async with self.http.get(f"{self.url}{path}") as answer:
            answer.raise_for_status()
            async for line in answer.content:
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    yield kind, orjson.loads(line[6:])


class Hearth(System):
    """`make run`, with another model server."""

    name = "hearth"

    def __init__(self, http: aiohttp.ClientSession, models_url: str, *, slots: int, workers: int = 1) -> None:
        super().__init__(http, models_url, slots=slots)
        self._workers = workers

    async def start(self) -> None:
        env = {
            "HEARTH_HOME": str(self.folder),
            "HEARTH_PORT": str(self.port),
            # The embedded model server where there is no other.
            **({"OLLAMA_URL": self.models_url} if self.models_url else {}),
            "HEARTH_WORKERS": str(self._workers),
            "HEARTH_WORKER_CONCURRENCY": str(self.slots),
            "HEARTH_MODEL_CONCURRENCY": str(max(self.slots, 4)),
        }
        self.processes.start("hearth", [sys.executable, "-m", "hearth_local"], env=env)
        await until_answers(self.http, f"{self.url}/health")
        self.database = await connected(self.folder / "run" / "pg")

    async def ended(self) -> None:
        """Ends it so that it can be started again with what it has."""
        await self.database.close()
        await asyncio.to_thread(self.processes.stop)

    async def stop(self) -> None:
        if hasattr(self, "database"):
            await self.database.close()
        await super().stop()

    async def accept(self, prompt: str, model: str) -> str:
        if model not in self.agents:
            agent = {"name": model, "model_name": model}
            self.agents[model] = (await self.post("/api/v1/agents/create", agent, status=201))["id"]
        body: dict[str, Any] = {"agent_id": self.agents[model], "input": {"prompt": prompt}}
        return str((await self.post("/api/v1/agents/run", body, status=202))["task_id"])

    def stream_path(self, run_id: str) -> str:
        return f"/api/v1/logs/stream/{run_id}"

    async def pieces(self, run_id: str) -> AsyncIterator[str]:
        async for kind, data in self.sse(self.stream_path(run_id)):
            if kind == "delta":
                yield data["message"]

    async def finished(self) -> int:
        # A run's last event is the status that it ended with, which is told when its row has it.
        return int(
            await self.database.fetchval(
                "SELECT count(*) FROM task_logs WHERE kind = 'status' AND context ->> 'status' = 'completed'"
            )
        )

    def workers(self) -> list[psutil.Process]:
        return [p for p in self.all_processes() if "agent_service.worker" in p.cmdline()]

    def all_processes(self) -> list[psutil.Process]:
        return [p for p in self.processes.tree("hearth") if not p.name().startswith(STORES)]

    def roles(self) -> dict[str, list[psutil.Process]]:
        roles = super().roles()
        for process in roles.pop("other services"):
            module = next((part for part in process.cmdline() if part in SERVICES), None)
            roles.setdefault(SERVICES[module] if module else "the supervisor", []).append(process)
        return roles

    def stores(self, name: str) -> list[psutil.Process]:
        return [p for p in self.processes.tree("hearth") if p.name().startswith(name)]

    def redis(self) -> Redis:
        return Redis(unix_socket_path=str(self.folder / "run" / "redis.sock"))

    def log_writers(self) -> list[psutil.Process]:
        return [p for p in self.all_processes() if "log_service" in p.cmdline()]

    def log_entry(self, event: Event) -> tuple[str, dict[Any, Any]]:
        return EVENTS_STREAM, {EVENT_FIELD: event.encode()}


class WithStores(System):
    """A system that is given PostgreSQL and Redis as `make run` starts them."""

    async def start(self) -> None:
        self._home = Home(self.folder / "home").opened()
        home = self._home.__enter__()
        self._supervisor = Supervisor(lambda _: None)
        self.redis_socket = home.socket("redis")
        self.postgres_folder = home.sockets / "pg"
        await self._supervisor.start(parts.redis(home))
        await self._supervisor.start(await asyncio.to_thread(parts.postgresql, home))
        self.database = await connected(self.postgres_folder)
        await self.start_processes()

    async def stop(self) -> None:
        await asyncio.to_thread(self.processes.stop)
        if hasattr(self, "database"):
            await self.database.close()
        if hasattr(self, "_supervisor"):
            await self._supervisor.stop()
            self._home.__exit__(None, None, None)
        await super().stop()

    def stores(self, name: str) -> list[psutil.Process]:
        # They are children of this process, which has those of one system at a time.
        return [p for p in psutil.Process().children(recursive=True) if p.name().startswith(name)]

    def redis(self) -> Redis:
        return Redis(unix_socket_path=str(self.redis_socket))

    @abstractmethod
    async def start_processes(self) -> None:
        """Starts the system's own."""


class Celery(WithStores):
    """`baselines/celery`: FastAPI, Celery (prefork, acks late), SQLAlchemy, a writer of logs."""

    name = "celery"

    async def start_processes(self) -> None:
        folder = BASELINES / "celery"
        tools = folder / ".venv" / "bin"
        env = {
            "DATABASE_HOST": str(self.postgres_folder),
            "REDIS_SOCKET": str(self.redis_socket),
            "OLLAMA_URL": self.models_url,
        }
        api = [str(tools / "uvicorn"), "baseline.api:app", "--port", str(self.port), "--no-access-log"]
        self.processes.start("api", api, env=env, cwd=folder)
        await until_answers(self.http, f"{self.url}/docs")
        worker = [str(tools / "celery"), "-A", "baseline.worker", "worker", "--pool", "prefork"]
        worker += ["--concurrency", str(self.slots), "--loglevel", "WARNING", "--without-gossip", "--without-mingle"]
        self.processes.start("worker", worker, env=env, cwd=folder)
        self.processes.start("writer", [str(tools / "python"), "-m", "baseline.log_writer"], env=env, cwd=folder)
        started = time.monotonic()
        while len(self.processes.tree("worker")) <= self.slots:
            if time.monotonic() > started + READY_SECONDS:
                raise RuntimeError("Celery's processes did not start")
            await asyncio.sleep(POLL_SECONDS)

    async def accept(self, prompt: str, model: str) -> str:
        if model not in self.agents:
            self.agents[model] = (await self.post("/agents", {"name": model, "model_name": model}, status=201))["id"]
        body: dict[str, Any] = {"agent_id": self.agents[model], "input": {"prompt": prompt}}
        return str((await self.post("/runs", body, status=202))["task_id"])

    def stream_path(self, run_id: str) -> str:
        return f"/runs/{run_id}/stream"

    async def pieces(self, run_id: str) -> AsyncIterator[str]:
        async for kind, data in self.sse(self.stream_path(run_id)):
            if kind == "delta":
                yield data["text"]

    async def finished(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM task_logs WHERE message = 'end: completed'"))

    def workers(self) -> list[psutil.Process]:
        return self.processes.tree("worker")

    def all_processes(self) -> list[psutil.Process]:
        return [p for name in ("api", "worker", "writer") for p in self.processes.tree(name)]

    def log_writers(self) -> list[psutil.Process]:
        return self.processes.tree("writer")

    def log_entry(self, event: Event) -> tuple[str, dict[Any, Any]]:
        return "logs", {"kind": event.kind, "level": "INFO", "text": event.message, "task_id": event.task_id}


class Aegra(WithStores):
    """`baselines/aegra`: Aegra with its Redis broker, and a graph that makes the same model call."""

    name = "aegra"

    async def start_processes(self) -> None:
        folder = BASELINES / "aegra"
        env = {
            "DATABASE_URL": f"postgresql://postgres@/postgres?host={self.postgres_folder}",
            "REDIS_URL": f"unix://{self.redis_socket}",
            "REDIS_BROKER_ENABLED": "true",
            "WORKER_COUNT": "1",
            "N_JOBS_PER_WORKER": str(self.slots),
            "AEGRA_CONFIG": "aegra.json",
            "LOG_LEVEL": "WARNING",
            "OLLAMA_URL": self.models_url,
            "PORT": str(self.port),
        }
        argv = [str(folder / ".venv" / "bin" / "uvicorn"), "aegra_api.main:app", "--port", str(self.port)]
        self.processes.start("aegra", [*argv, "--no-access-log"], env=env, cwd=folder)
        await until_answers(self.http, f"{self.url}/health")

    async def accept(self, prompt: str, model: str) -> str:
        body = {
            "assistant_id": "chat",
            "input": {"model": model, "prompt": prompt},
            "on_completion": "keep",
            "stream_mode": ["custom"],
        }
        run = await self.post("/runs", body, status=200)
        return f"{run['thread_id']}/runs/{run['run_id']}"

    def stream_path(self, run_id: str) -> str:
        return f"/threads/{run_id}/stream"

    async def pieces(self, run_id: str) -> AsyncIterator[str]:
        async for kind, data in self.sse(self.stream_path(run_id)):
            if kind == "custom":
                yield data

    async def finished(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM runs WHERE status = 'success'"))

    def workers(self) -> list[psutil.Process]:
        return self.processes.tree("aegra")

    def all_processes(self) -> list[psutil.Process]:
        return self.processes.tree("aegra")
