"""How long a start takes, and what a run costs as work grows: parts of `speed.py` with instances of their own."""

import statistics
import time

import psutil
from measures import CLIENTS, FEW, Bench, Measures, by_clients, drained, processor_seconds, suspended, timed
from systems import Hearth

MODEL = "scripted:16"
WORKERS = (1, 2, 3)
QUEUED = (100, 1000, 10_000)
STARTS = 3


async def start(bench: Bench) -> dict[str, float]:
    """Seconds until /health is answered with 200, as `make run` starts Hearth: with the embedded model server."""
    async with Hearth(bench.http, "", slots=FEW) as system:
        seconds = []
        for _ in range(STARTS):
            await system.ended()
            seconds.append(await timed(system.start()) / 1000)
    return {"second start until healthy (s)": statistics.median(seconds)}


async def growth(bench: Bench) -> dict[str, float]:
    """Runs per second, and the processor time of one in all processes, by workers and by the runs that wait; also of
    accepting one while they gather."""
    figures: dict[str, float] = {}
    for workers in WORKERS:
        async with Hearth(bench.http, bench.models_url, slots=FEW, workers=workers) as system:
            measures = Measures(bench, system)
            await measures.settle()
            of = f"{workers} worker{'s' if workers > 1 else ''}"
            found = await _waiting(measures, of, waiting=max(2, bench.runs // 4), count=max(2, bench.runs // 4))
            figures.update({name: value for name, value in found.items() if "accept" not in name})
    async with Hearth(bench.http, bench.models_url, slots=FEW) as system:
        measures = Measures(bench, system)
        await measures.settle()
        for waiting in (n for n in QUEUED if n <= 5 * bench.runs):
            found = await _waiting(measures, f"{waiting} queued", waiting=waiting, count=min(waiting, bench.runs // 2))
            figures.update(found)
    return figures


async def _waiting(measures: Measures, of: str, *, waiting: int, count: int) -> dict[str, float]:
    """Has so many runs accepted while the workers are stopped, and what each takes; then what the first `count` take.

    A worker that was stopped for longer than it waits for Redis takes that for an error, and reads again five seconds
    later: the rate is that of the runs after the first.
    """
    system = measures.system
    before = measures.done

    async def one(number: int) -> None:
        await measures.run(f"{of} {number}", MODEL)

    counting = psutil.Process(system.database.get_server_pid())

    def used() -> float:
        processes = [*system.all_processes(), *system.stores("postgres"), *system.stores("redis-server")]
        processes.remove(counting)
        return processor_seconds(processes)

    with suspended(system.workers()):
        begun = used()
        await by_clients(CLIENTS, waiting, one)
        accepted = used()
    await drained(system, before + 1)
    first_runs, first = await system.finished() - before, time.monotonic()
    seconds = await drained(system, before + count) - first
    return {
        f"processor time to accept a run, {of} (ms)": (accepted - begun) * 1000 / waiting,
        f"runs per second, {of}": (count - first_runs) / seconds,
        f"processor time of a run, {of} (ms)": (used() - accepted) * 1000 / count,
    }
