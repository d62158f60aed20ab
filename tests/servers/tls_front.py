"""TLS before a server on a unix socket, as a managed PostgreSQL or Redis has it."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

# What a client of PostgreSQL asks before TLS: https://www.postgresql.org/docs/current/protocol-message-formats.html
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@asynccontextmanager
async def tls_front(socket: Path, context: ssl.SSLContext, *, is_postgresql: bool = False) -> AsyncIterator[int]:
    """Serves on a port of 127.0.0.1, which it gives, and passes on what comes by TLS; nothing else gets through."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            if is_postgresql:
                if await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST:
                    writer.write(b"S")
                    await writer.start_tls(context)
                else:
                    writer.close()
                    return
            behind_reader, behind_writer = await asyncio.open_unix_connection(str(socket))
            await asyncio.gather(_pass_on(reader, behind_writer), _pass_on(behind_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if is_postgresql else context)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return
    finally:
        writer.close()
