"""The text and the chunks of a file, read in a process of its own: `agent_service.extractor`."""

import asyncio
import json
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
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent_service.extractor",
        json.dumps(options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and its last line says why
            async for part in parts:
                process.stdin.write(part)
                await process.stdin.drain()
            process.stdin.close()
        async for line in process.stdout:
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
        status = await process.wait()
        logger.warning("a document's reader ended early", name=file.name, status=status)
        raise DocumentUnreadable(
            f"{file.name} cannot be read: its reader crashed, or took more than {settings.document_seconds} "
            "seconds of processor time (HEARTH_DOCUMENT_SECONDS). Split it, or upload it as text."
        )
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
