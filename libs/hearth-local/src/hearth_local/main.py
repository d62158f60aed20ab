"""`python -m hearth_local`: one whole Hearth on this machine, until Ctrl-C."""

import argparse
import asyncio
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hearth_local.home import Home, StartError
from hearth_local.libraries import check_libraries
from hearth_local.parts import Options, migrations, models, postgresql, redis, services
from hearth_local.supervisor import Supervisor

HOST = "127.0.0.1"
HEALTHY_SECONDS = 60.0
POLL_SECONDS = 0.05

READY = r"""
Hearth is ready: http://localhost:{port}   API: http://localhost:{port}/docs   home: {home}

Paste this to make an agent, run it and watch it:

  H=localhost:{port}/api/v1 J='content-type: application/json'
  AGENT=$(curl -s $H/agents/create -H "$J" -d '{{"name":"helper","model_name":"{model}"}}' |
    sed 's/.*"id":"\([^"]*\)".*/\1/')
  TASK=$(curl -s $H/agents/run -H "$J" -d '{{"agent_id":"'$AGENT'","input":{{"prompt":"Name three colours."}}}}' |
    sed 's/.*"task_id":"\([^"]*\)".*/\1/')
  curl -N $H/logs/stream/$TASK
  curl -s $H/tasks/$TASK/status

Ctrl-C ends it."""


def say(line: str) -> None:
    """A line for the person at the terminal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def check_port(port: int) -> None:
    """Raises StartError where something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            advice = f"end what uses it, or choose another with HEARTH_PORT={port + 1}."
            raise StartError(f"Port {port} cannot be used ({error.strerror}): {advice}") from error


async def run(home: Home, options: Options) -> None:
    """Brings everything up, waits for SIGINT or SIGTERM, and takes everything down."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    supervisor = Supervisor(say)
    started = time.perf_counter()
    say(f"Starting Hearth in {home.path}")
    bringing_up = asyncio.create_task(_bring_up(supervisor, home, options))
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([bringing_up, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            bringing_up.result()
            say(f"  all healthy         {time.perf_counter() - started:5.1f} s")
            model = "smollm2:135m" if options.ollama_url is None else "MODEL"
            say(READY.format(port=options.port, home=home.path, model=model))
        await waiting
    finally:
        waiting.cancel()
        bringing_up.cancel()
        await asyncio.gather(bringing_up, waiting, return_exceptions=True)
        say("\nStopping.")
        await supervisor.stop()
        say("Stopped.")


async def _bring_up(supervisor: Supervisor, home: Home, options: Options) -> None:
    is_first_start = not home.has_database
    await supervisor.start(redis(home))
    await supervisor.start(await asyncio.to_thread(postgresql, home))
    if is_first_start:  # services would only complain that there are no tables
        await supervisor.complete(migrations(home))
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        if options.ollama_url is None:
            group.create_task(supervisor.start(models(home)))
        if not is_first_start:
            group.create_task(supervisor.complete(migrations(home)))
        for part in services(home, options):
            group.create_task(supervisor.start(part))
    await _healthy(options.port, lambda: say(f"  {'gateway':<12} ready  {time.perf_counter() - started:5.1f} s"))


async def _healthy(port: int, on_answer: Callable[[], None]) -> None:
    """Returns when all of Hearth is healthy; calls `on_answer` when the gateway begins to answer."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    has_answered = False
    while time.monotonic() < deadline:
        status, body = await asyncio.to_thread(_get_health, port)
        if status and not has_answered:
            has_answered = True
            on_answer()
        if status == http.client.OK:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise StartError(f"Not everything became healthy within {HEALTHY_SECONDS:.0f} seconds: {body}")


def _get_health(port: int) -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError as error:
        return 0, f"the gateway does not answer ({error})"
    finally:
        connection.close()


def options_of(arguments: list[str]) -> tuple[Path, Options]:
    """The home and the options that the command line and the environment name. Raises StartError."""
    parser = argparse.ArgumentParser(prog="hearth", description=__doc__)
    parser.add_argument("--home", help="where data, logs and sockets are (HEARTH_HOME, default .hearth)")
    parser.add_argument("--port", help="the gateway's port on 127.0.0.1 (HEARTH_PORT, default 8000)")
    parser.add_argument("--workers", help="how many worker processes (HEARTH_WORKERS, default 1)")
    parser.add_argument("--ollama-url", help="a real Ollama instead of the embedded models (OLLAMA_URL)")
    given = parser.parse_args(arguments)
    options = Options(
        port=_number("HEARTH_PORT", given.port, default=8000, low=1, high=65535),
        workers=_number("HEARTH_WORKERS", given.workers, default=1, low=1, high=64),
        ollama_url=given.ollama_url or os.environ.get("OLLAMA_URL") or None,
    )
    return Path(given.home or os.environ.get("HEARTH_HOME") or ".hearth"), options


def _number(variable: str, given: str | None, *, default: int, low: int, high: int) -> int:
    text = given or os.environ.get(variable) or str(default)
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise StartError(f"{variable} is {text!r}: it must be a whole number from {low} to {high}.")
    return int(text)


def main() -> None:
    """The command."""
    try:
        path, options = options_of(sys.argv[1:])
        check_port(options.port)
        if options.ollama_url is None:
            check_libraries()
        with Home(path).opened() as home:
            asyncio.run(run(home, options))
    except StartError as error:
        sys.exit(f"hearth: {error}")
    except BaseExceptionGroup as group:
        known = group.subgroup(StartError)
        if known is None:
            raise
        first = known.exceptions[0]
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        sys.exit(f"hearth: {first}")


if __name__ == "__main__":
    main()
