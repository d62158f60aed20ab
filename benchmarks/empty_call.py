"""What gRPC takes for an empty call between two processes.

Needs grpcio and uvloop alone, so that versions can be told apart:
`uv run --no-project --with grpcio==1.85.3 --with uvloop benchmarks/empty_call.py`.
"""

import asyncio
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

CALLS = 4000
AT_ONCE = (1, 16)


def processor_seconds() -> float:
    """What this process has used until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def serve(address: str, told: int) -> None:
    """Answers until SIGTERM, and writes to the pipe `told` what the calls took."""
    used: list[float] = []

    async def empty(request: bytes, context: object) -> bytes:
        return b""

    async def count(request: bytes, context: object) -> bytes:
        used.append(processor_seconds())
        return b""

    handlers: dict[str, Any] = {
        "Empty": grpc.unary_unary_rpc_method_handler(empty),
        "Count": grpc.unary_unary_rpc_method_handler(count),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Calls", handlers),))
    server.add_insecure_port(address)
    await server.start()
    os.write(told, b"1")
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await server.stop(None)
    os.write(told, " ".join(str(after - before) for before, after in zip(used[::2], used[1::2], strict=True)).encode())


async def call(address: str) -> list[tuple[float, float]]:
    """Processor and wall seconds here, for each of AT_ONCE."""
    took = []
    async with grpc.aio.insecure_channel(address) as channel:
        empty: Callable[..., Awaitable[bytes]] = channel.unary_unary("/Calls/Empty")
        count: Callable[..., Awaitable[bytes]] = channel.unary_unary("/Calls/Count")

        async def some(calls: int) -> None:
            for _ in range(calls):
                await empty(b"", timeout=10)

        await some(100)
        for clients in AT_ONCE:
            await count(b"")
            started, used = time.perf_counter(), processor_seconds()
            await asyncio.gather(*(some(CALLS // clients) for _ in range(clients)))
            took.append((processor_seconds() - used, time.perf_counter() - started))
            await count(b"")
    return took


def main() -> None:
    """Measures and prints a line for each of AT_ONCE."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{Path(folder) / 'socket'}"
        heard, told = os.pipe()
        server = os.fork()
        if server == 0:
            uvloop.run(serve(address, told))
            os._exit(0)
        os.read(heard, 1)
        callers = uvloop.run(call(address))
        os.kill(server, signal.SIGTERM)
        servers = [float(seconds) for seconds in os.read(heard, 1000).split()]
        os.waitpid(server, 0)
    for clients, (client, wall), served in zip(AT_ONCE, callers, servers, strict=True):
        us = [1_000_000 * seconds / CALLS for seconds in (client, served, client + served, wall)]
        sys.stdout.write(
            f"grpcio {grpc.__version__}, {clients:2} at once: caller {us[0]:.0f} us, server {us[1]:.0f} us, "
            f"both {us[2]:.0f} us, wall {us[3]:.0f} us\n"
        )


if __name__ == "__main__":
    main()
