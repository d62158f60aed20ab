"""The process that reads files, as the services run it: ends that are not its own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agent_service.extraction import Extracted, FileName, extract
from agent_service.settings import ExtractionSettings
from hearth_runtime.errors import DocumentUnreadable
from system.waiting import eventually, until

FILE = FileName(name="a.txt", media_type="text/plain")


def readers() -> list[int]:
    """The processes that read files for this one."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            is_reader = path.name.isdigit() and b"agent_service.extractor" in (path / "cmdline").read_bytes()
            if is_reader and f"\nPPid:\t{os.getpid()}\n" in (path / "status").read_text():
                found.append(int(path.name))
        except OSError:
            continue
    return found


async def parts(*given: bytes) -> AsyncIterator[bytes]:
    for part in given:
        yield part


async def test_a_file_larger_than_any_buffer_comes_back_whole() -> None:
    data = "".join(f"line {n} of many, and then some\n" for n in range(200_000)).encode()
    step = 1024 * 1024
    pieces = [
        piece
        async for piece in extract(
            FILE,
            parts(*[data[n : n + step] for n in range(0, len(data), step)]),
            chunk_tokens=256,
            settings=ExtractionSettings(),
        )
    ]
    assert "".join(piece for piece in pieces if isinstance(piece, str)).encode() == data
    last = pieces[-1]
    assert isinstance(last, Extracted)
    assert last.character_count == len(data)
    assert sum(len(piece) for piece in pieces if isinstance(piece, list)) == last.chunk_count
    assert readers() == []


async def test_a_reader_that_dies_is_a_file_that_cannot_be_read() -> None:
    async def never_ends() -> AsyncIterator[bytes]:
        yield b"x"
        (reader,) = until(readers, what="the reader")
        os.kill(reader, signal.SIGKILL)
        for _ in range(100):
            yield b"x" * 1024 * 1024

    with pytest.raises(DocumentUnreadable, match="its reader crashed"):
        async for _ in extract(FILE, never_ends(), chunk_tokens=256, settings=ExtractionSettings()):
            pass
    assert readers() == []


async def test_a_file_that_takes_too_long_is_given_up() -> None:
    settings = ExtractionSettings(document_seconds=1)
    with pytest.raises(DocumentUnreadable, match="more than 1 seconds of processor time"):
        async for _ in extract(FILE, parts(*[b"word " * 200_000] * 20), chunk_tokens=256, settings=settings):
            pass


async def test_whoever_stops_listening_ends_the_reader() -> None:
    async def waits() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def read() -> None:
        async for _ in extract(FILE, waits(), chunk_tokens=256, settings=ExtractionSettings()):
            pass

    async def begun() -> bool:
        return bool(readers())

    reading = asyncio.create_task(read())
    await eventually(begun)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert readers() == []
