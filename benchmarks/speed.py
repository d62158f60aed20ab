"""Hearth beside what people would build instead: `make bench`.

Each system runs by itself, one after the other, on this machine, with the same scripted model server; runs per second
are measured in two turns, the second the other way round. Prints a table and writes benchmarks/results.json
and docs/performance.md. `--only NAME` measures one part, `--runs` fewer runs.
"""

import argparse
import asyncio
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import aiohttp
import orjson
from fan_out import fan_out, waiting
from growth import growth, start
from measures import (
    CLIENTS,
    FEW,
    MANY,
    Bench,
    Measures,
    by_clients,
    drained,
    processor_seconds,
    pss,
    quantile,
    scripted_models,
    timed,
)
from persistence import persistence
from report import Row, save, table
from systems import Aegra, Celery, Hearth, System

STREAMS = 200
FILES = 8192
GOING_SECONDS = 6.0  # as long as two heartbeats of a lease


class Speeds(Measures):
    """How fast, and how large."""

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
        """Runs per second from the first POST to the last run that is persisted, and the processor time of each; the
        runs of one turn."""
        before = self._processor_seconds()
        started = time.monotonic()

        async def one(number: int) -> None:
            await self.run(f"run {number}", "scripted:16")

        runs = max(1, self.bench.runs // len(TURNS))
        await by_clients(CLIENTS, runs, one)
        ended = await drained(self.system, self.done)
        slots = self.system.slots
        self.figures[f"runs per second, {slots} slots"] = runs / (ended - started)
        took = {role: seconds - before[role] for role, seconds in self._processor_seconds().items()}
        for role, seconds in (("all", sum(took.values())), *took.items()):
            self.figures[f"processor time per run, {slots} slots, {role} (ms)"] = 1000 * seconds / runs

    def _processor_seconds(self) -> dict[str, float]:
        return {role: processor_seconds(processes) for role, processes in self.system.roles().items()}

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
        """PSS with all slots busy, and the processor time that so many slow runs take."""
        for number in range(self.system.slots):
            await self.run(f"memory {number}", "scripted:400-1" if self.system.slots > FEW else "scripted:100-20")
        await asyncio.sleep(4)  # until all have begun
        workers = sum(pss(process) for process in self.system.workers())
        everything = sum(pss(process) for process in self.system.all_processes())
        self.figures[f"memory of the workers, {self.system.slots} runs going (MiB)"] = workers
        self.figures[f"memory of all processes, {self.system.slots} runs going (MiB)"] = everything
        before = sum(self._processor_seconds().values())
        await asyncio.sleep(GOING_SECONDS)
        used = sum(self._processor_seconds().values()) - before
        each = used * 1000 / self.system.slots / GOING_SECONDS
        self.figures["processor time of a run at a token a second, each second (ms)"] = each


# In this order, and of each part its slots and whom it measures: those with the same slots share an instance.
PARTS: dict[str, tuple[int, Callable[[Speeds], Awaitable[None]], tuple[type[System], ...]]] = {
    "acceptance": (FEW, Speeds.acceptance, (Hearth, Celery, Aegra)),
    "first-request": (FEW, Speeds.first_request, (Hearth, Celery)),
    "first-token": (FEW, Speeds.first_token, (Hearth, Celery)),
    "token-delay": (FEW, Speeds.token_delay, (Hearth, Celery)),
    "tokens-per-second": (FEW, Speeds.tokens_per_second, (Hearth, Celery)),
    "throughput-4": (FEW, Speeds.throughput, (Hearth, Celery, Aegra)),
    "fan-out": (FEW, fan_out, (Hearth, Celery)),
    "waiting": (FEW, waiting, (Hearth, Celery)),
    "persistence": (FEW, persistence, (Hearth, Celery)),
    "throughput-64": (MANY, Speeds.throughput, (Hearth, Celery, Aegra)),
    "memory": (MANY, Speeds.memory, (Hearth, Celery, Aegra)),
    "streams": (STREAMS, Speeds.streams, (Hearth,)),
}
# A machine's pace may change while one system after the other is measured: what takes long is measured in turns, there
# and back, and the figure is the mean.
TURNS: tuple[tuple[type[System], ...], ...] = ((Celery, Aegra, Hearth), (Hearth, Aegra, Celery))
IN_TURNS = ("throughput-4", "throughput-64")
# These start what they measure themselves.
ALONE: dict[str, Callable[[Bench], Awaitable[dict[str, float]]]] = {"start": start, "growth": growth}


async def measure(names: Sequence[str], runs: int) -> AsyncIterator[tuple[list[str], list[Row]]]:
    """Some of the parts, and what they found, as they come."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as http,
        scripted_models(http) as models_url,
    ):
        bench = Bench(http=http, models_url=models_url, runs=runs)
        for slots in (FEW, MANY, STREAMS):
            found = [name for name in PARTS if name in names and PARTS[name][0] == slots]
            figures: dict[str, dict[str, list[float]]] = {}
            for turn, kinds in enumerate(TURNS):
                for kind in kinds:
                    wanted = [name for name in found if kind in PARTS[name][2] and (turn == 0 or name in IN_TURNS)]
                    if not wanted:
                        continue
                    async with kind(http, models_url, slots=slots) as system:
                        measures = Speeds(bench, system)
                        await measures.settle()
                        for name in wanted:
                            await PARTS[name][1](measures)
                    _say(system.name, measures.figures)
                    for figure, value in measures.figures.items():
                        figures.setdefault(figure, {}).setdefault(system.name, []).append(value)
            if found:
                yield found, [Row.of(name, _means(by_system)) for name, by_system in figures.items()]
        for name in (name for name in ALONE if name in names):
            values = await ALONE[name](bench)
            _say("hearth", values)
            yield [name], [Row.of(figure, {"hearth": value}) for figure, value in values.items()]


def _means(by_system: dict[str, list[float]]) -> dict[str, float]:
    return {system: statistics.fmean(values) for system, values in by_system.items()}


def _say(system: str, figures: dict[str, float]) -> None:
    for name, value in figures.items():
        sys.stderr.write(f"  {system:<8} {name}: {value:,.3g}\n")


async def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*PARTS, *ALONE]
    parser.add_argument("--only", action="append", choices=names, help="measure this part; may be given again")
    parser.add_argument(
        "--runs", type=int, default=2000, help="how many runs measure the throughput; others in proportion"
    )
    parser.add_argument("--dry", action="store_true", help="print the table and write nothing")
    options = parser.parse_args()
    # A thousand subscribers are more sockets than a process may have by default. What is started here inherits it.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, FILES), hard), hard))
    rows: list[Row] = []
    async for parts, found in measure(options.only or names, options.runs):
        rows += found
        if not options.dry:
            save(found, parts=parts)
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    asyncio.run(main())
