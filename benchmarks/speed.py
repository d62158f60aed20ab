"""Hearth beside what people would build instead: `make bench`.

Each system runs by itself, one after the other, on this machine, with the same scripted model server. Prints a table
and writes benchmarks/results.json and docs/performance.md. `--only NAME` measures one part, `--runs` fewer runs.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
import orjson
import psutil
from report import Row, write
from systems import ROOT, Aegra, Celery, Hearth, System, free_port, until_answers

FEW, MANY = 4, 64
CLIENTS = 32
DRAIN_SECONDS = 40.0
STREAMS = 200


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
            # Counting takes longer the more there is, and from the processors that are measured: a twentieth at most.
            await asyncio.sleep(max(0.05, 20 * (time.monotonic() - asked)))
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

    async def acceptance(self) -> None:
        """How long POST takes, for one client and for many at once."""
        for clients, count in ((1, 200), (CLIENTS, 1000)):
            took: list[float] = []

            async def one(number: int, took: list[float] = took, clients: int = clients) -> None:
                took.append(await timed(self.run(f"accept {clients} {number}", "scripted:1")))

            await by_clients(clients, count, one)
            await drained(self.system, self.done)
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                self.figures[f"accepted, {name}, {clients} at once (ms)"] = quantile(took, share)

    async def first_request(self) -> None:
        """From the answer to the POST to the model server's clock, with nothing else to do."""
        took = []
        await self.bench.arrivals()
        for number in range(50):
            await self.run(f"idle {number}", "scripted:1")
            accepted = time.monotonic()
            await drained(self.system, self.done)
            took.append(((await self.bench.arrivals())[f"idle {number}"] - accepted) * 1000)
        self.figures["accepted to first model request, idle, p50 (ms)"] = statistics.median(took)

    async def throughput(self) -> None:
        """Runs per second from the first POST to the last run that is persisted."""
        started = time.monotonic()

        async def one(number: int) -> None:
            await self.run(f"run {number}", "scripted:16")

        await by_clients(CLIENTS, self.bench.runs, one)
        ended = await drained(self.system, self.done)
        self.figures[f"runs per second, {self.system.slots} slots"] = self.bench.runs / (ended - started)

    async def first_token(self) -> None:
        """From the POST to the first piece at the client, beside asking the model server itself, in turn."""
        beyond = []
        for number in range(50):
            direct = await timed(anext(self._direct("scripted:16")))

            async def through(number: int = number) -> None:
                run_id = await self.run(f"first {number}", "scripted:16")
                await anext(aiter(self.system.pieces(run_id)))

            beyond.append(await timed(through()) - direct)
            await drained(self.system, self.done)
        self.figures["time to first token beyond the model's, p50 (ms)"] = statistics.median(beyond)

    async def _direct(self, model: str) -> AsyncIterator[str]:
        body = {"model": model, "messages": [{"role": "user", "content": "direct"}]}
        async with self.bench.http.post(f"{self.bench.models_url}/api/chat", json=body) as answer:
            async for line in answer.content:
                yield orjson.loads(line)["message"]["content"]

    async def token_delay(self) -> None:
        """From the model server's clock to the client's, for each token, at 50 tokens a second."""
        late = [delay for number in range(5) for delay in await self._delays(f"delay {number}", "scripted:100-50")]
        await drained(self.system, self.done)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            self.figures[f"delay per token at 50/s, {name} (ms)"] = quantile(late, share)

    async def _delays(self, prompt: str, model: str) -> list[float]:
        """Milliseconds that each token of a run took."""
        run_id = await self.run(prompt, model)
        delays: list[float] = []
        async for piece in self.system.pieces(run_id):
            now = time.monotonic()
            delays += [(now - float(sent)) * 1000 for sent in piece.split()]
        return delays

    async def tokens_per_second(self) -> None:
        """Through the whole chain, where the model gives 5,000 at once."""
        rates = []
        for number in range(3):
            run_id = await self.run(f"fast {number}", "scripted:5000")
            started, count = 0.0, 0
            async for piece in self.system.pieces(run_id):
                started = started or time.perf_counter()
                count += len(piece.split())
            rates.append(count / (time.perf_counter() - started))
        await drained(self.system, self.done)
        self.figures["tokens per second through the chain"] = statistics.median(rates)

    async def streams(self) -> None:
        """Many runs at 20 tokens a second, each with a subscriber."""
        late = await asyncio.gather(*(self._delays(f"stream {n}", "scripted:100-20") for n in range(STREAMS)))
        await drained(self.system, self.done)
        delays = [delay for one in late for delay in one]
        self.figures[f"{STREAMS} streams, delay per token, p99 (ms)"] = quantile(delays, 0.99)
        self.figures[f"{STREAMS} streams, delay per token, most (ms)"] = max(delays)

    async def memory(self) -> None:
        """PSS with all slots busy."""
        for number in range(self.system.slots):
            await self.run(f"memory {number}", "scripted:400-1" if self.system.slots > FEW else "scripted:100-20")
        await asyncio.sleep(4)  # until all have begun
        workers = sum(pss(process) for process in self.system.workers())
        everything = sum(pss(process) for process in self.system.all_processes())
        self.figures[f"memory of the workers, {self.system.slots} runs going (MiB)"] = workers
        self.figures[f"memory of all processes, {self.system.slots} runs going (MiB)"] = everything


def pss(process: psutil.Process) -> float:
    """Proportional set size in MiB: what is shared counts in parts."""
    return float(process.memory_full_info().pss) / 1024 / 1024


PARTS: dict[str, tuple[int, Callable[[Measures], Awaitable[None]], tuple[type[System], ...]]] = {
    "acceptance": (FEW, Measures.acceptance, (Hearth, Celery, Aegra)),
    "first-request": (FEW, Measures.first_request, (Hearth, Celery)),
    "first-token": (FEW, Measures.first_token, (Hearth, Celery)),
    "token-delay": (FEW, Measures.token_delay, (Hearth, Celery)),
    "tokens-per-second": (FEW, Measures.tokens_per_second, (Hearth, Celery)),
    "throughput-4": (FEW, Measures.throughput, (Hearth, Celery, Aegra)),
    "throughput-64": (MANY, Measures.throughput, (Hearth, Celery, Aegra)),
    "memory": (MANY, Measures.memory, (Hearth, Celery, Aegra)),
    "streams": (STREAMS, Measures.streams, (Hearth,)),
}


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


async def measure(names: Sequence[str], runs: int) -> dict[str, dict[str, float]]:
    """Figures by name, by system."""
    figures: dict[str, dict[str, float]] = {}
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as http,
        scripted_models(http) as models_url,
    ):
        bench = Bench(http=http, models_url=models_url, runs=runs)
        for slots in (FEW, MANY, STREAMS):
            for kind in (Celery, Aegra, Hearth):
                parts = [PARTS[n] for n in names if PARTS[n][0] == slots and kind in PARTS[n][2]]
                if not parts:
                    continue
                async with kind(http, models_url, slots=slots) as system:
                    measures = Measures(bench, system)
                    await measures.settle()
                    for _, part, _ in parts:
                        await part(measures)
                for name, value in measures.figures.items():
                    sys.stderr.write(f"  {system.name:<8} {name}: {value:,.1f}\n")
                    figures.setdefault(name, {})[system.name] = value
    return figures


async def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part; may be given again")
    parser.add_argument("--runs", type=int, default=2000, help="how many runs measure the throughput")
    parser.add_argument("--dry", action="store_true", help="print the table and write nothing")
    options = parser.parse_args()
    figures = await measure(options.only or list(PARTS), options.runs)
    rows = [Row.of(name, by_system) for name, by_system in figures.items()]
    write(rows, dry=options.dry)


if __name__ == "__main__":
    asyncio.run(main())
