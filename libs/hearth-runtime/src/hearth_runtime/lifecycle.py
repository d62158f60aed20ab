"""How a process begins and ends."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable

import uvloop
from loguru import logger

from hearth_runtime.logs import configure_logging
from hearth_runtime.metrics import serve_metrics
from hearth_runtime.settings import RuntimeSettings
from hearth_runtime.telemetry import configure_tracing

# Python looks for garbage after so many objects more than were freed. By its own 700, processes with a thousand
# streams or runs spend a sixth of their time on looking at what is in use.
COLLECT_AFTER_OBJECTS = 20_000


def run(service: str, settings: RuntimeSettings, main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs `main(stopping)` to its end. SIGTERM and SIGINT set `stopping`; `main` then hands over and returns."""
    configure_logging(service, settings)
    shutdown_tracing = configure_tracing(service, settings)
    end_metrics = serve_metrics(settings)
    gc.freeze()  # what was imported is no garbage
    gc.set_threshold(COLLECT_AFTER_OBJECTS, *gc.get_threshold()[1:])

    async def body() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await main(stopping)

    try:
        uvloop.run(body())
        logger.info("stopped")
    finally:
        end_metrics()
        shutdown_tracing()
        logger.complete()


async def run_with(main: Awaitable[object], *background: Awaitable[object]) -> None:
    """Awaits `main` with `background` beside it, which is cancelled when `main` has ended.

    What ends early in the background is no matter; what raises there ends `main` and is raised here.
    """
    tasks = [asyncio.ensure_future(a) for a in (main, *background)]
    pending = set(tasks)
    try:
        while not tasks[0].done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pause(stopping: asyncio.Event, seconds: float) -> bool:
    """Waits that long, or until `stopping` is set; tells whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return False
    return True
