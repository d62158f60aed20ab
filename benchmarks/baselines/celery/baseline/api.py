"""The API process: `uvicorn baseline.api:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import orjson
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from baseline.settings import ASYNC_DATABASE_URL, END, REDIS_URL, live_stream
from baseline.tables import Agent, Base, Task
from baseline.worker import run_agent

engine = create_async_engine(ASYNC_DATABASE_URL, pool_size=10, max_overflow=10)
sessions = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Makes the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


class AgentBody(BaseModel):
    """A new agent."""

    name: str
    model_name: str


class RunBody(BaseModel):
    """A new run."""

    agent_id: UUID
    input: dict[str, Any]


@app.post("/agents", status_code=201)
async def create_agent(body: AgentBody) -> dict[str, Any]:
    """Makes an agent."""
    async with sessions() as session, session.begin():
        agent = Agent(name=body.name, model_name=body.model_name)
        session.add(agent)
    return {"id": str(agent.id)}


@app.post("/runs", status_code=202)
async def create_run(body: RunBody) -> dict[str, Any]:
    """Accepts a run: its row is committed before Celery is told."""
    async with sessions() as session, session.begin():
        if await session.get(Agent, body.agent_id) is None:
            raise HTTPException(404, "no such agent")
        task = Task(agent_id=body.agent_id, input=body.input)
        session.add(task)
    run_agent.delay(str(task.id))
    return {"task_id": str(task.id), "status": "pending"}


@app.get("/runs/{task_id}")
async def get_run(task_id: UUID) -> dict[str, Any]:
    """The run now."""
    async with sessions() as session:
        task = await session.get(Task, task_id)
    if task is None:
        raise HTTPException(404, "no such run")
    return {"task_id": str(task.id), "status": task.status, "output": task.output, "error": task.error}


@app.get("/runs/{task_id}/stream")
async def stream_run(task_id: UUID) -> StreamingResponse:
    """The run's events as they come, by a Redis reader of its own."""

    async def events() -> AsyncIterator[bytes]:
        last = "0"
        async with Redis.from_url(REDIS_URL, socket_timeout=None) as redis:
            while True:
                answer = await redis.xread({live_stream(str(task_id)): last}, block=15_000, count=100)
                if not answer:
                    yield b": heartbeat\n\n"
                for _, entries in answer:
                    for entry_id, fields in entries:
                        last = entry_id.decode()
                        data = orjson.dumps({k.decode(): v.decode() for k, v in fields.items()})
                        yield b"id: %s\nevent: %s\ndata: %s\n\n" % (entry_id, fields[b"kind"], data)
                        if fields[b"kind"].decode() == END:
                            return

    return StreamingResponse(events(), media_type="text/event-stream")
