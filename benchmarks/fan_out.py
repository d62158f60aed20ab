"""What many live subscribers cost, of one task and of tasks that wait: parts of `speed.py`."""

import asyncio
import statistics

import aiohttp
from measures import Measures, drained, processor_seconds, suspended
from systems import System

SUBSCRIBERS = (1, 100, 1000)
# What a run costs differs by a fifth from one to the next, which is as much as a hundred subscribers cost.
REPEATS = {0: 3, 100: 3}
MODEL = "scripted:40-5"
WAITING = 200
WAITING_SECONDS = 3.0


async def fan_out(measures: Measures) -> None:
    """Processor time of the system and of its Redis, beyond that of the same run without subscribers; and connections.

    The clients count bytes and look into nothing. One subscriber costs too little to be told from the run, so that
    what is told of it is the cost of both.
    """
    alone = await _typical(measures, 0)
    for count in SUBSCRIBERS[:1] + tuple(n for n in SUBSCRIBERS[1:] if n <= measures.bench.runs):
        own, of_redis, readers = await _typical(measures, count)
        if count == 1:
            measures.figures["processor time of a run with one subscriber (ms)"] = own * 1000
        else:
            after = f"per subscriber, {count} of one run (ms)"
            measures.figures[f"processor time {after}"] = max(0.0, own - alone[0]) * 1000 / count
            measures.figures[f"Redis's processor time {after}"] = max(0.0, of_redis - alone[1]) * 1000 / count
        measures.figures[f"Redis connections that read for subscribers, {count} of one run (count)"] = readers


async def waiting(measures: Measures) -> None:
    """Processor time of a stream whose run waits for a worker, each second, PostgreSQL's and Redis' included."""
    system = measures.system
    with suspended(system.workers()):
        runs = await asyncio.gather(*(measures.run(f"waits {number}", "scripted:1") for number in range(WAITING)))
        alone = await _used(system)
        answers = await asyncio.gather(*(system.http.get(f"{system.url}{system.stream_path(run)}") for run in runs))
        await asyncio.sleep(1)
        watched = await _used(system)
    await asyncio.gather(*(_read(system, answer) for answer in answers))
    await drained(system, measures.done)
    each = max(0.0, watched - alone) * 1000 / WAITING / WAITING_SECONDS
    measures.figures["processor time of a stream whose run waits, each second (ms)"] = each


async def _used(system: System) -> float:
    """Processor seconds of all its processes within WAITING_SECONDS from now on."""
    processes = [process for some in system.roles().values() for process in some]
    before = processor_seconds(processes)
    await asyncio.sleep(WAITING_SECONDS)
    return processor_seconds(processes) - before


async def _typical(measures: Measures, subscribers: int) -> tuple[float, float, int]:
    """The medians of some such runs."""
    own, of_redis, readers = zip(
        *[await _run(measures, subscribers) for _ in range(REPEATS.get(subscribers, 1))], strict=True
    )
    return statistics.median(own), statistics.median(of_redis), round(statistics.median(readers))


async def _run(measures: Measures, subscribers: int) -> tuple[float, float, int]:
    """A run with so many: processor seconds of the system, of Redis, and how many connections were reading it.

    The run begins when all of them are there: one that comes late is sent many tokens at once, which costs less.
    """
    system = measures.system
    processes, redis = system.all_processes(), system.stores("redis-server")
    own, of_redis = processor_seconds(processes), processor_seconds(redis)
    with suspended(system.workers()):
        run_id = await measures.run(f"fan out {subscribers}", MODEL)
        url = f"{system.url}{system.stream_path(run_id)}"
        answers = await asyncio.gather(*(system.http.get(url) for _ in range(subscribers)))
        await asyncio.sleep(1)
        readers = await _readers(system)
    await asyncio.gather(*(_read(system, answer) for answer in answers))
    await drained(system, measures.done)
    return processor_seconds(processes) - own, processor_seconds(redis) - of_redis, readers


async def _read(system: System, answer: aiohttp.ClientResponse) -> None:
    """Reads a stream to its end."""
    last = b""
    async with answer:
        answer.raise_for_status()
        async for part in answer.content.iter_any():
            last = (last + part)[-1000:]
    if b"event: end" not in last:
        raise RuntimeError(f"{system.name} cut off a stream: {last!r}")


async def _readers(system: System) -> int:
    """How many connections read streams, but for those that share work in groups."""
    async with system.redis() as redis:
        return sum(client["cmd"] == "xread" for client in await redis.client_list())
