"""Starts parts, starts again those that die, and ends them all in order."""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hearth_local.home import StartError
from hearth_local.parts import Part

READY_SECONDS = 60.0
STOP_SECONDS = 2.4  # for each of four tiers: Ctrl-C takes less than 10 seconds
RESTART_SECONDS = 0.5
RESTART_CAP_SECONDS = 10.0
STABLE_SECONDS = 30.0
POLL_SECONDS = 0.02

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Supervisor:
    """Runs parts as children. `say` is given a line for people."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._running: dict[str, tuple[Part, asyncio.subprocess.Process]] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    async def start(self, part: Part) -> None:
        """Starts the part and watches it; returns when it is ready. Raises StartError where it does not get there."""
        started = time.perf_counter()
        if part.ready_socket is not None:
            part.ready_socket.unlink(missing_ok=True)
        process = await _spawn(part)
        self._running[part.name] = (part, process)
        while part.ready_socket is not None and not await _accepts(part.ready_socket):
            if process.returncode is not None:
                raise StartError(f"{part.name} ended at its start (exit {process.returncode}){_where(part)}.")
            if time.perf_counter() - started > READY_SECONDS:
                raise StartError(f"{part.name} was not ready within {READY_SECONDS:.0f} seconds{_where(part)}.")
            await asyncio.sleep(POLL_SECONDS)
        self._watchers[part.name] = asyncio.create_task(self._watch(part))
        if part.ready_socket is not None:
            self._say(f"  {part.name:<12} ready  {time.perf_counter() - started:5.1f} s")

    async def complete(self, part: Part) -> None:
        """Runs a part that ends by itself. Raises StartError where it fails."""
        started = time.perf_counter()
        process = await _spawn(part)
        self._running[part.name] = (part, process)
        if await process.wait() != 0:
            raise StartError(f"{part.name} failed (exit {process.returncode}){_where(part)}.")
        del self._running[part.name]
        self._say(f"  {part.name:<12} done   {time.perf_counter() - started:5.1f} s")

    async def stop(self) -> None:
        """Ends all parts, tier by tier from the highest; one that does not end in time is killed."""
        self._stopping = True
        for watcher in self._watchers.values():
            watcher.cancel()
        for tier in sorted({part.tier for part, _ in self._running.values()}, reverse=True):
            await asyncio.gather(*(_end(part, p) for part, p in self._running.values() if part.tier == tier))

    async def _watch(self, part: Part) -> None:
        delay = RESTART_SECONDS
        while True:
            _, process = self._running[part.name]
            since = time.monotonic()
            code = await process.wait()
            if self._stopping:
                return
            if time.monotonic() - since > STABLE_SECONDS:
                delay = RESTART_SECONDS
            self._say(f"  {part.name} ended unexpectedly (exit {code}); starting it again{_where(part)}.")
            await asyncio.sleep(delay)
            delay = min(delay * 2, RESTART_CAP_SECONDS)
            self._running[part.name] = (part, await _spawn(part))


async def _spawn(part: Part) -> asyncio.subprocess.Process:
    output = part.output.open("ab") if part.output is not None else None
    try:
        # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which ends parts in order.
        return await asyncio.create_subprocess_exec(
            *part.argv,
            env={**os.environ, **part.env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,
            user=part.user,
            extra_groups=[] if part.user is not None else None,
            preexec_fn=lambda: _die_with_parent(part.stop_signal),
        )
    finally:
        if output is not None:
            output.close()


def _die_with_parent(number: int) -> None:
    """In the child: should the supervisor be killed, no part is left behind (Linux only)."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, number)


async def _end(part: Part, process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(part.stop_signal)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(client, str(path))
        except OSError:
            return False
    return True


def _where(part: Part) -> str:
    log = part.output or Path(part.env.get("HEARTH_LOG_DIR", "")) / f"{part.name}.log"
    return f"; see {log}" if part.output or "HEARTH_LOG_DIR" in part.env else ""
