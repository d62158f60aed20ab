"""Where things are: DATABASE_HOST (the folder of PostgreSQL's socket), REDIS_SOCKET, OLLAMA_URL."""

import os

DATABASE = f"postgres@/postgres?host={os.environ['DATABASE_HOST']}"
ASYNC_DATABASE_URL = f"postgresql+asyncpg://{DATABASE}"
DATABASE_URL = f"postgresql+psycopg://{DATABASE}"
REDIS_URL = f"unix://{os.environ['REDIS_SOCKET']}"
BROKER_URL = f"redis+socket://{os.environ['REDIS_SOCKET']}"
OLLAMA_URL = os.environ.get("OLLAMA_URL", "http://127.0.0.1:11434")

LOGS = "logs"  # what is persisted
END = "end"


def live_stream(task_id: str) -> str:
    """The Redis stream that subscribers of a task read."""
    return f"live:{task_id}"
