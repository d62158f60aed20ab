"""One Hearth for all end-to-end tests: the embedded model beside a fake Ollama, traced."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakes.ollama import FakeOllama
from system.client import Client
from system.instance import Instance
from system.traces import TraceReceiver
from system.waiting import until


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="hearth-e2e-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def model_server(short_folder: Path) -> Iterator[str]:
    """The embedded model server by itself, as OLLAMA_URL names it."""
    path = short_folder / "models.sock"
    process = subprocess.Popen([sys.executable, "-m", "hearth_local.models", "--socket", str(path)])
    until(path.exists, what="the model server's socket")
    yield f"unix:{path}"
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture(scope="session")
def traces() -> Iterator[TraceReceiver]:
    """Where the instance sends its spans."""
    with TraceReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
async def fake_ollama() -> AsyncIterator[FakeOllama]:
    """A model host that tests make fail on purpose."""
    async with FakeOllama() as fake:
        yield fake


@pytest.fixture(scope="session")
async def hearth(
    short_folder: Path, model_server: str, traces: TraceReceiver, fake_ollama: FakeOllama
) -> AsyncIterator[Instance]:
    """The instance: two workers of four slots each, and time-outs short enough for tests."""
    env = {
        "OLLAMA_URL": f"{model_server},{fake_ollama.url}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces.endpoint,
        "HEARTH_TRACE_URL": "https://traces.example.org/trace/{trace_id}",
        "HEARTH_WORKERS": "2",
        "HEARTH_LEASE_SECONDS": "4",
        "HEARTH_LEASE_HEARTBEAT_SECONDS": "1",
        "HEARTH_RETRY_BASE_SECONDS": "0.1",
        "HEARTH_RETRY_CAP_SECONDS": "0.2",
        "HEARTH_MODEL_FIRST_TOKEN_SECONDS": "20",
        # The fake host fails in one test after the other, and is to be asked in the next all the same.
        "HEARTH_MODEL_BREAKER_FAILURES": "1000",
        "HEARTH_MODEL_BETWEEN_TOKENS_SECONDS": "2",
        # Kinds of tools and workflows of others.
        "PYTHONPATH": str(Path(__file__).parents[1] / "workflows"),
    }
    instance = Instance(short_folder / "home", env=env)
    await asyncio.to_thread(instance.start)
    yield instance
    await asyncio.to_thread(instance.stop)


@pytest.fixture
async def client(hearth: Instance) -> AsyncIterator[Client]:
    """A client of the instance."""
    opened = Client(hearth.url)
    yield opened
    await opened.http.aclose()
