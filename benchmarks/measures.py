"""What all parts of `speed.py` share: waiting, counting, asking the time."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import aiohttp
import orjson
import psutil
from systems import ROOT, System, free_port, until_answers

FEW, MANY = 4, 64
CLIENTS = 32
DRAIN_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What measures share: an HTTP client, the scripted models, and how much to do."""

    http: aiohttp.ClientSession
    models_url: str
    runs: int

    async def arrivals(self) -> dict[str, float]:
        """When each prompt came to the model server, on the monotonic clock, since the last call."""
        async with self.http.get(f"{self.models_url}/arrivals") as answer:
            return dict(orjson.loads(await answer.read()))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def timed(work: Awaitable[object]) -> float:
    """Milliseconds that it took."""
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) * 1000


async def drained(system: System, count: int) -> float:
    """Waits until so many runs are completed and persisted; returns the monotonic time then."""
    async with asyncio.timeout(DRAIN_SECONDS):
        while True:
            asked = time.monotonic()
            if await system.finished() >= count:
                break
            # Counting takes longer the more there is, and from the processors that are measured; but what is looked for
            # later is seen later.
            await asyncio.sleep(min(max(0.05, 20 * (time.monotonic() - asked)), 0.3))
    return time.monotonic()


async def by_clients(clients: int, count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Does `work` with each number below `count`, so many at a time."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(client() for _ in range(clients)))


class Measures:
    """Figures of one system. `done` counts the runs that it was given."""

    def __init__(self, bench: Bench, system: System) -> None:
        self.bench = bench
        self.system = system
        self.done = 0
        self.figures: dict[str, float] = {}

    async def run(self, prompt: str, model: str) -> str:
        self.done += 1
        return await self.system.accept(prompt, model)

    async def settle(self) -> None:
        """Warms up, and waits until nothing is under way."""
        for number in range(10):
            await self.run(f"warm {number}", "scripted:1")
        await drained(self.system, self.done)
        await self.bench.arrivals()


def pss(process: psutil.Process) -> float:
    """Proportional set size in MiB: what is shared counts in parts."""
    return float(process.memory_full_info().pss) / 1024 / 1024


def processor_seconds(processes: Iterable[psutil.Process]) -> float:
    """What they have used until now, with those of their children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


@contextlib.contextmanager
def suspended(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Nothing is done by them meanwhile."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@contextlib.asynccontextmanager
async def scripted_models(http: aiohttp.ClientSession) -> AsyncIterator[str]:
    """The URL of a scripted model server."""
    port = free_port()
    script = str(ROOT / "benchmarks" / "scripted_models.py")
    process = subprocess.Popen([sys.executable, script, "--port", str(port)])
    try:
        url = f"http://127.0.0.1:{port}"
        await until_answers(http, f"{url}/api/version")
        yield url
    finally:
        process.terminate()
        process.wait(10)
