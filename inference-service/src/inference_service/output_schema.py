"""Answers that must fit a JSON Schema, checked in a process of their own so that no check can take long."""

import asyncio
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import orjson
from hearth_runtime.errors import FieldViolation, InvalidArgument, ModelOutputInvalid, Unavailable

from inference_service.output import clean

MAX_SCHEMA_CHARACTERS = 65_536
MAX_LINE_BYTES = 32 * 1024 * 1024
START_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class OutputSchema:
    """A JSON Schema that was looked at: as text, and as the JSON object that it is."""

    text: str
    parsed: dict[str, Any]


class SchemaChecker:
    """Checks by `schema_process`, which is started when first needed and again when it has ended."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._process: _Process | None = None
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """Ends the process."""
        async with self._turn:
            await self._end()

    async def schema(self, text: str) -> OutputSchema:
        """Raises InvalidArgument where `text` is no JSON Schema."""
        if len(text) > MAX_SCHEMA_CHARACTERS:
            _refuse(f"has {len(text)} characters; at most {MAX_SCHEMA_CHARACTERS} are taken")
        answer = await self._ask(text, None)
        if answer is None:
            _refuse(f"cannot be read within {self._seconds:g} seconds: make it simpler")
        if "bad_schema" in answer:
            _refuse(clean(str(answer["bad_schema"])))
        return OutputSchema(text=text, parsed=orjson.loads(text))

    async def check(self, schema: OutputSchema, text: str) -> str:
        """The answer `text` as compact JSON. Raises ModelOutputInvalid, saying where it does not fit."""
        answer = await self._ask(schema.text, text)
        if answer is None:
            raise ModelOutputInvalid(
                f"The model's answer could not be checked by output_schema within {self._seconds:g} seconds: "
                "make the schema simpler."
            )
        if (data := answer.get("data")) is None:
            raise ModelOutputInvalid(f"The model's answer {clean(str(answer['bad_answer']))}.")
        return data

    async def _ask(self, schema: str, answer: str | None) -> dict[str, str | None] | None:
        """What the process writes; None where the check made it end."""
        line = orjson.dumps({"schema": schema, "answer": answer}) + b"\n"
        async with self._turn:
            complete = False
            try:
                async with asyncio.timeout(self._seconds + START_SECONDS):
                    if self._process is None or self._process.has_ended:
                        await self._end()
                        self._process = await _Process.start(self._seconds)
                    written = await self._process.ask(line)
                complete = written.endswith(b"\n")
                return orjson.loads(written) if complete else None
            except (ConnectionError, RuntimeError):  # the last is uvloop's, of a connection that has closed
                return None
            except TimeoutError as error:
                raise Unavailable("The check of output_schema did not start in time. Try again.") from error
            finally:
                # Also where the caller has gone: its answer must not be taken for the next one's.
                if not complete:
                    await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()


class _Process:
    """A running `schema_process`, spoken to over a socket that is its stdin and stdout."""

    def __init__(
        self, popen: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._popen = popen
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, seconds: float) -> Self:
        # Not by the event loop: uvloop runs Python's fork handlers in the child, where OpenTelemetry's start threads
        # before the new program does, and the child now and then dies of SIGSEGV. Popen forks without them.
        ours, theirs = socket.socketpair()
        with theirs:
            popen = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [sys.executable, "-m", "inference_service.schema_process", str(seconds)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,  # Ctrl-C in a terminal is for the service, which then ends it
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE_BYTES)
        return cls(popen, reader, writer)

    @property
    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    async def ask(self, line: bytes) -> bytes:
        """The line that it answers with, without its end where the process ended first."""
        self._writer.write(line)
        await self._writer.drain()
        return await self._reader.readline()

    async def end(self) -> None:
        self._popen.kill()
        self._writer.close()
        await asyncio.to_thread(self._popen.wait)


def _refuse(message: str) -> NoReturn:
    raise InvalidArgument(
        f"output_schema {message}", fields=[FieldViolation(field="options.output_schema", message=message)]
    )
