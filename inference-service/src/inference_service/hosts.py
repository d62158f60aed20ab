"""Model hosts: servers that speak Ollama's protocol, what models they have, and who may use them now."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from hearth_runtime.errors import FieldViolation, HearthError, InvalidArgument
from ollama import ChatResponse, GenerateResponse, ResponseError

from inference_service.breaker import Breaker, Report, State
from inference_service.catalog import MAX_NAME, Catalog, Model
from inference_service.generation_request import misnamed
from inference_service.ollama_errors import typed_errors, unknown_model, unreachable
from inference_service.output import clean
from inference_service.settings import InferenceSettings, split_urls
from inference_service.slots import FairSlots
from inference_service.transport import HostHttp

VERSION_TIMEOUT_SECONDS = 1.5  # within what a check of dependencies may take


@dataclass(frozen=True, kw_only=True)
class ModelHost:
    """A host as it is now."""

    name: str
    reachable: bool
    version: str
    error: str
    active_requests: int
    waiting_requests: int
    breaker: Report


class Host:
    """One server. `name` is its URL without credentials."""

    def __init__(self, url: str, settings: InferenceSettings) -> None:
        # Time-outs between tokens are the generation's own: a model that loads is silent for long.
        self.http = HostHttp(url, connect_seconds=settings.model_connect_seconds)
        self.name = self.http.name
        self.breaker = Breaker(
            name=self.name,
            probe=self.version,
            failures=settings.model_breaker_failures,
            first_seconds=settings.model_breaker_first_seconds,
            max_seconds=settings.model_breaker_max_seconds,
        )
        self.catalog = Catalog(self.http, self.breaker, name=self.name, fresh_seconds=settings.model_list_seconds)
        self.slots = FairSlots(settings.model_concurrency, queue=settings.model_queue)

    @property
    def load(self) -> int:
        """How many requests it has, at work or waiting."""
        return self.slots.active + self.slots.waiting

    @property
    def rank(self) -> tuple[bool, int, bool]:
        """Lower is to be asked first: who waits for no trial, then the least busy, then who is no trial itself."""
        return self.breaker.on_trial, self.load, self.breaker.state is not State.CLOSED

    @property
    def is_usable(self) -> bool:
        """Whether requests may be sent there."""
        return self.breaker.state is not State.OPEN

    async def close(self) -> None:
        """Closes the connections."""
        await self.breaker.close()
        await self.catalog.close()
        await self.http.close()

    async def version(self) -> str:
        """Ollama's version there. Raises HearthError."""
        with typed_errors(host=self.name, model=""):
            try:
                async with asyncio.timeout(VERSION_TIMEOUT_SECONDS):
                    answer = await self.http.get("/api/version")
            except TimeoutError as error:
                raise unreachable(self.name) from error
            return clean(str(answer["version"])[:MAX_NAME])

    async def stream[C: (ChatResponse, GenerateResponse)](
        self, path: str, body: dict[str, Any], kind: type[C]
    ) -> AsyncGenerator[C]:
        """The answer to `body`, less what is None or empty in it, chunk by chunk. Use it inside `typed_errors`.

        Not by the ollama library, which knows a few words of JSON Schema and leaves out of a tool's parameters what it
        does not know: `anyOf`, `default`, an object inside an object.
        """
        given = {name: value for name, value in body.items() if value is not None and value != []}
        async with aclosing(self.http.lines(path, given)) as chunks:
            async for chunk in chunks:
                if error := chunk.get("error"):
                    raise ResponseError(error)
                yield kind(**chunk)


class Hosts:
    """All hosts, and which of them is to answer."""

    def __init__(self, settings: InferenceSettings) -> None:
        self.all = tuple(Host(url, settings) for url in split_urls(settings.ollama_url))

    async def close(self) -> None:
        """Closes the connections."""
        for host in self.all:
            await host.close()

    async def for_model(self, model: str) -> list[Host]:
        """The hosts that have the model, the least busy first.

        Waits for no host while another is known to have it: lists that are old are renewed meanwhile. A host whose
        breaker is open is left out. Raises ModelNotFound where all hosts answer and none has the model,
        ModelHostUnavailable where one that might have it does not answer or is left out.
        """
        usable = [host for host in self.all if host.is_usable]
        having = [host for host in usable if host.catalog.has(model)]
        for host in usable:
            if host.catalog.is_stale:
                host.catalog.refresh()
        if not having:
            having = await _soon_having(model, usable)
        if not having:
            refusals = [host.breaker.refusal() for host in self.all if not host.is_usable]
            failures = [host.catalog.failure for host in usable if host.catalog.failure is not None]
            # The host that is looked at again the soonest says when to come back.
            raise min(refusals, key=lambda r: r.retry_after_seconds or 0.0, default=None) or next(
                iter(failures), unknown_model(model)
            )
        return sorted(having, key=lambda host: host.rank)

    async def model(self, name: str) -> Model:
        """The model as the host describes it that would be asked next. Raises as `for_model`."""
        if (message := misnamed(name)) is not None:
            raise InvalidArgument(f"name: {message}", fields=[FieldViolation(field="name", message=message)])
        return await (await self.for_model(name))[0].catalog.model(name)

    async def models(self) -> tuple[list[Model], list[ModelHost]]:
        """All models by name, merged over the hosts, and the hosts as they are."""
        answers = await asyncio.gather(*(_described(host) for host in self.all))
        models: dict[str, Model] = {}
        for found, host in answers:
            for model in found:
                known = models.get(model.name)
                models[model.name] = replace(known, hosts=(*known.hosts, host.name)) if known else model
        return [models[name] for name in sorted(models)], [host for _, host in answers]


async def _soon_having(model: str, hosts: Sequence[Host]) -> list[Host]:
    """Asks `hosts` and returns as soon as one says that it has the model, or all have spoken."""
    pending = {host.catalog.refresh() for host in hosts}
    while pending:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if having := [host for host in hosts if host.catalog.has(model)]:
            return having
    return []


async def _described(host: Host) -> tuple[Sequence[Model], ModelHost]:
    models: Sequence[Model] = ()
    version, error = "", ""
    try:
        version = await host.version()
        models = await host.catalog.models()
    except HearthError as failure:
        error = failure.detail
    return models, ModelHost(
        name=host.name,
        reachable=not error,
        version=version,
        error=error,
        active_requests=host.slots.active,
        waiting_requests=host.slots.waiting,
        breaker=host.breaker.report(),
    )
