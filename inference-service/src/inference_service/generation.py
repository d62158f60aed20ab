"""One generation: the right host, tries before the first token, time-outs, a checked answer."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from hearth_runtime.errors import HearthError, ModelHostUnavailable, ModelTimeout
from ollama import ChatResponse, GenerateResponse

from inference_service.answer import Answer, Chunk, Item, Notice, prompt_cut
from inference_service.generation_request import Request
from inference_service.hosts import Host, Hosts
from inference_service.measures import model_call
from inference_service.merging import merged
from inference_service.ollama_errors import PromptTooLong, lacks_capability, typed_errors
from inference_service.output_schema import OutputSchema, SchemaChecker
from inference_service.settings import InferenceSettings
from inference_service.tries import Tries

END_SECONDS = 0.5  # from an answer's last chunk to the end of its body


class Generator:
    """Generates on `hosts`."""

    def __init__(self, hosts: Hosts, checker: SchemaChecker, settings: InferenceSettings) -> None:
        self._hosts = hosts
        self._checker = checker
        self._settings = settings

    async def generate(self, request: Request) -> AsyncGenerator[Item]:
        """Pieces of text and notices, then `Done`. Closing it closes the request to the host. Raises HearthError.

        A model that is not there or does not answer is followed by the next; what has begun to answer is not repeated.
        """
        seconds = answer_seconds(self._settings, request.seconds)
        try:
            async with aclosing(merged(self._tried(request, seconds), seconds=seconds)) as items:
                async for item in items:
                    yield item
        except TimeoutError as error:
            raise ModelTimeout(
                f"{request.models[0]} had not answered in full after the {seconds:.3g} seconds that it was given."
            ) from error

    async def _tried(self, request: Request, seconds: float) -> AsyncGenerator[Item]:
        schema = None
        if request.options.output_schema is not None:
            schema = await self._checker.schema(request.options.output_schema)
        tries = Tries(self._hosts, self._settings, request.models, seconds=seconds)
        while True:
            answered = False
            try:
                host = await tries.next_host()
                await self._check_capabilities(request, tries.model, host)
                async with aclosing(self._on_host(request, tries.model, host, schema)) as items:
                    async for item in items:
                        answered = answered or not isinstance(item, Notice)
                        yield item
            except HearthError as error:
                if answered:
                    raise
                notice = tries.failed(error)
            else:
                return
            yield notice

    async def _check_capabilities(self, request: Request, model: str, host: Host) -> None:
        """Raises ModelLacksCapability where the host is known to say so; where it is not, it will say so itself."""
        if request.needs:
            known = (await host.catalog.model(model)).capabilities
            for capability in request.needs if known else ():
                if capability not in known:
                    raise lacks_capability(model, capability)

    async def _think(self, request: Request, model: str, host: Host) -> bool | None:
        """What to tell the model of thinking; Ollama refuses to tell one that cannot think."""
        if request.options.think is None or "thinking" not in (await host.catalog.model(model)).capabilities:
            return None
        return request.options.think

    async def _on_host(
        self, request: Request, model: str, host: Host, schema: OutputSchema | None
    ) -> AsyncGenerator[Item]:
        queued = time.perf_counter()
        with host.slots.place(request.fair_key) as turn:
            if not turn.done():
                yield Notice(code="queued", message=f"Waiting for a place at {host.name}.")
            await turn
            queue_seconds = time.perf_counter() - queued
            operation = "chat" if request.prompt is None else "generate"
            with model_call(operation, model=model, host=host.name, queue_seconds=queue_seconds) as call:
                call.asked(request)
                answer = Answer(limit=self._settings.model_output_characters)
                if host.breaker.on_trial:
                    yield Notice(code="queued", message=f"Waiting to see whether {host.name} answers again.")
                async with (
                    host.breaker.call() as begins,
                    aclosing(self._chunks(request, model, host, schema)) as chunks,
                ):
                    async for chunk in chunks:
                        if isinstance(chunk, Notice):
                            yield chunk
                            continue
                        begins()
                        is_first = answer.first_token_seconds is None
                        items = answer.add(chunk)
                        if is_first and answer.first_token_seconds is not None:
                            call.first_token(answer.first_token_seconds)
                        for item in items:
                            yield item
                        if answer.is_done:
                            break
                    if not answer.is_done:
                        raise ModelHostUnavailable(f"{host.name} ended the answer before it was done.")
                if answer.fills_context(request.options):
                    yield prompt_cut(request.options, model=model)
                if answer.is_empty:
                    raise answer.nothing(model=model, host=host.name)
                if (cut := answer.cut(request.options, model=model)) is not None:
                    yield cut
                data = None
                if schema is not None and not answer.calls_tools:
                    data = await self._checker.check(schema, answer.text)
                done = answer.done(model=model, host=host.name, queue_seconds=queue_seconds, data=data)
                call.answered(answer.text)
                call.generated(done)
        yield done

    async def _chunks(
        self, request: Request, model: str, host: Host, schema: OutputSchema | None
    ) -> AsyncGenerator[Chunk | Notice]:
        """The host's chunks. Where the prompt does not fit, a notice says so, and the oldest of it is left out.

        By itself Ollama leaves it out without a word, also amid an answer (`shift`), which may then go on for
        long without its question. An Ollama that is too old to know `truncate` and `shift` still does.
        """
        shared: dict[str, Any] = {
            "model": model,
            "stream": True,
            "format": schema.parsed if schema is not None else None,
            "options": request.options.for_ollama(),
            "keep_alive": request.options.keep_alive_for_ollama(),
            "shift": False,
            "think": await self._think(request, model, host),
        }
        for truncate in (False, True):
            try:
                with typed_errors(host=host.name, model=model):
                    async with aclosing(self._asked(request, host, {**shared, "truncate": truncate})) as chunks:
                        async for chunk in chunks:
                            yield chunk
            except PromptTooLong:
                if truncate:
                    raise
                yield prompt_cut(request.options, model=model)
            else:
                return

    async def _asked(self, request: Request, host: Host, shared: dict[str, Any]) -> AsyncGenerator[Chunk | Notice]:
        """The host's chunks; the first may take long, since a model may have to load, the next may not.

        Before the first a notice says so, where it does take long.
        """
        answer: AsyncGenerator[Chunk]
        if request.prompt is None:
            messages = [message.for_ollama() for message in request.messages]
            tools = [tool.for_ollama() for tool in request.tools]
            answer = host.stream("/api/chat", {**shared, "messages": messages, "tools": tools}, ChatResponse)
        else:
            prompt = {"prompt": request.prompt, "system": request.system or ""}
            answer = host.stream("/api/generate", {**shared, **prompt}, GenerateResponse)
        patience = self._settings.model_first_token_seconds
        async with aclosing(answer) as chunks:
            first = asyncio.create_task(_next(chunks, patience, host))
            try:
                await asyncio.wait([first], timeout=self._settings.model_loading_notice_seconds)
                if not first.done():
                    yield self._loading(shared["model"], host)
                chunk = await first
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
            while chunk is not None:
                if chunk.done:
                    # The connection can be used again only where the body was read to its end.
                    await _end(chunks)
                yield chunk
                chunk = await _next(chunks, self._settings.model_between_tokens_seconds, host)

    def _loading(self, model: str, host: Host) -> Notice:
        settings = self._settings
        return Notice(
            code="loading",
            message=f"{model} has not begun to answer after {settings.model_loading_notice_seconds:g} seconds: "
            f"{host.name} may be loading it. At most {settings.model_first_token_seconds:g} seconds are waited.",
        )


async def _next(chunks: AsyncGenerator[Chunk], patience: float, host: Host) -> Chunk | None:
    try:
        async with asyncio.timeout(patience):
            return await anext(chunks, None)
    except TimeoutError as error:
        raise ModelTimeout(f"{host.name} was silent for {patience:g} seconds.") from error


async def _end(chunks: AsyncGenerator[Chunk]) -> None:
    """Reads what should be nothing. What goes wrong here no longer matters: the answer is complete."""
    try:
        async with asyncio.timeout(END_SECONDS):
            with typed_errors(host="", model=""):
                await anext(chunks, None)
    except (TimeoutError, HearthError):
        return


def answer_seconds(settings: InferenceSettings, given: float | None) -> float:
    """How long an answer may take: a little less than its caller waits, so that it hears why there is none."""
    if given is None:
        return settings.model_answer_seconds
    return min(settings.model_answer_seconds, given - min(0.2, given * 0.1))
