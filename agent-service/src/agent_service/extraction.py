"""The text and the chunks of a file, read in a process of its own: `agent_service.extractor`."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import orjson
from hearth_runtime.documents import Chunk
from hearth_runtime.errors import DocumentUnreadable
from loguru import logger

from agent_service.settings import ExtractionSettings

# A line is a part of the text, of which each character may become six.
LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """What there was in the file; no pages where it is of a kind without them."""

    page_count: int | None
    character_count: int
    chunk_count: int


@dataclass(frozen=True, kw_only=True)
class FileName:
    """What a file is called, and what it is said to be."""

    name: str
    media_type: str


type Piece = str | list[Chunk] | Extracted


async def extract(
    file: FileName, parts: AsyncIterator[bytes], *, chunk_tokens: int, settings: ExtractionSettings
) -> AsyncGenerator[Piece]:
    """The parts of the text and the chunks, each in their order, and at last `Extracted`.

    Closing the iterator ends the process. Raises DocumentUnreadable.
    """
    options = {
        "name": file.name,
        "media_type": file.media_type,
        "chunk_tokens": chunk_tokens,
        "pages": settings.document_pages,
        "characters": settings.document_characters,
        "memory_mib": settings.document_memory_mib,
        "seconds": settings.document_seconds,
    }
    popen, reader, writer = await _start(json.dumps(options))
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and its last line says why
            async for part in parts:
                if writer.is_closing():
                    break
                writer.write(part)
                await writer.drain()
            if not writer.is_closing():
                writer.write_eof()
        while line := await _line(reader):
            match orjson.loads(line):
                case {"text": str(text)}:
                    yield text
                case {"chunks": [*chunks]}:
                    yield [Chunk(**{**chunk, "headings": tuple(chunk["headings"])}) for chunk in chunks]
                case {"done": {"pages": pages, "characters": characters, "chunks": count}}:
                    yield Extracted(page_count=pages, character_count=characters, chunk_count=count)
                    return
                case {"unreadable": str(why)}:
                    raise DocumentUnreadable(f"{file.name} cannot be read. {why}")
        status = await asyncio.to_thread(popen.wait)
        logger.warning("a document's reader ended early", name=file.name, status=status)
        raise DocumentUnreadable(
            f"{file.name} cannot be read: its reader crashed, or took more than {settings.document_seconds} "
            "seconds of processor time (HEARTH_DOCUMENT_SECONDS). Split it, or upload it as text."
        )
    finally:
        writer.close()
        popen.kill()
        await asyncio.to_thread(popen.wait)


async def _start(options: str) -> tuple["subprocess.Popen[bytes]", asyncio.StreamReader, asyncio.StreamWriter]:
    """The process, and what it says and is told, over a socket that is its stdin and stdout.

    Not by the event loop: uvloop runs Python's fork handlers in the child, where those of others start threads before
    the new program does, and the child now and then dies of it. Popen forks without them.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        popen = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            [sys.executable, "-m", "agent_service.extractor", options],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            start_new_session=True,  # Ctrl-C in a terminal is for the worker, which then ends it
        )
    reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
    return popen, reader, writer


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; nothing once the process has ended, in whatever way."""
    try:
        line = await reader.readline()
    except ConnectionResetError:
        return b""
    return line if line.endswith(b"\n") else b""
