"""The worker process: `celery -A baseline.worker worker --pool prefork --concurrency 4`."""

import httpx
import orjson
from celery import Celery
from celery import Task as CeleryTask
from loguru import logger
from redis import Redis
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from baseline.settings import BROKER_URL, DATABASE_URL, END, LOGS, OLLAMA_URL, REDIS_URL, live_stream
from baseline.tables import Agent, Task, now

LIVE_SECONDS = 3600

celery = Celery("baseline", broker=BROKER_URL)
celery.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
# Opened in each process of the pool at its first use.
engine = create_engine(DATABASE_URL, pool_size=1)
redis = Redis.from_url(REDIS_URL)
models = httpx.Client(base_url=OLLAMA_URL, timeout=httpx.Timeout(5, read=180))


def tell(task_id: str, kind: str, text: str, *, level: str = "INFO") -> None:
    """A log line: shown live and persisted."""
    fields = {"kind": kind, "level": level, "text": text}
    pipe = redis.pipeline(transaction=False)
    pipe.xadd(live_stream(task_id), fields)
    pipe.xadd(LOGS, {**fields, "task_id": task_id})
    pipe.execute()


@celery.task(bind=True, name="run_agent", max_retries=3)
def run_agent(self: CeleryTask, task_id: str) -> None:
    """Runs the agent once; tries again later where its model does not answer."""
    with Session(engine, expire_on_commit=False) as session:
        with session.begin():
            task = session.get_one(Task, task_id)
            agent = session.get_one(Agent, task.agent_id)
            task.status = "running"
        tell(task_id, "status", "running")
        try:
            text = chat(task_id, agent.model_name, task.input["prompt"])
        except httpx.HTTPError as error:
            logger.warning("the model did not answer: {}", error)
            if self.request.retries < (self.max_retries or 0):
                raise self.retry(exc=error, countdown=2**self.request.retries) from error
            with session.begin():
                task.status, task.error, task.completed_at = "failed", str(error), now()
            tell(task_id, END, "failed", level="ERROR")
            return
        tell(task_id, "message", text)
        with session.begin():
            task.status, task.output, task.completed_at = "completed", {"text": text}, now()
        tell(task_id, END, "completed")
        redis.expire(live_stream(task_id), LIVE_SECONDS)


def chat(task_id: str, model: str, prompt: str) -> str:
    """The model's answer; its pieces are shown live."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    pieces = []
    with models.stream("POST", "/api/chat", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            piece = orjson.loads(line)["message"]["content"]
            if piece:
                pieces.append(piece)
                redis.xadd(live_stream(task_id), {"kind": "delta", "text": piece})
    return "".join(pieces)
