"""Model hosts: servers that speak Ollama's protocol, what models they have, and who may use them now."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
from hearth_runtime.errors import HearthError
from ollama import AsyncClient

from inference_service.ollama_errors import typed_errors, unknown_model, unreachable
from inference_service.settings import InferenceSettings
from inference_service.slots import FairSlots

LIST_TIMEOUT_SECONDS = 3.0
SHOW_CONCURRENCY = 4


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model as its host describes it."""

    name: str
    digest: str
    capabilities: tuple[str, ...]
    family: str
    parameter_size: str
    quantization: str
    size_bytes: int
    context_tokens: int
    hosts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelHost:
    """A host as it is now."""

    name: str
    reachable: bool
    version: str
    error: str
    active_requests: int
    waiting_requests: int


class Host:
    """One server. `name` is its URL without credentials."""

    def __init__(self, url: str, settings: InferenceSettings) -> None:
        self._settings = settings
        # Time-outs between tokens are the generation's own: a model that loads is silent for long.
        timeout = httpx.Timeout(None, connect=settings.model_connect_seconds)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=settings.model_concurrency)
        options: dict[str, Any] = {"timeout": timeout, "trust_env": False}
        if url.startswith("unix:"):
            self.name, base = url, "http://localhost"
            options["transport"] = httpx.AsyncHTTPTransport(uds=url.removeprefix("unix:"), limits=limits)
        else:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            self.name = base = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            options["limits"] = limits
            if parts.username:
                options["auth"] = (parts.username, parts.password or "")
        self.client = AsyncClient(base, **options)
        self._http = httpx.AsyncClient(base_url=base, **options)  # for the one call that the library lacks
        self.slots = FairSlots(settings.model_concurrency, queue=settings.model_queue)
        self._names: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._named_at = float("-inf")
        self._shown: dict[str, Model] = {}

    async def close(self) -> None:
        """Closes the connections."""
        await self.client.close()  # type: ignore[no-untyped-call]
        await self._http.aclose()

    async def version(self) -> str:
        """Ollama's version there. Raises HearthError."""
        with typed_errors(host=self.name, model=""):
            async with _quickly(self.name):
                answer = await self._http.get("/api/version")
                answer.raise_for_status()
                return str(answer.json()["version"])

    async def has(self, model: str) -> bool:
        """Whether the host has the model, by a list that is at most `model_list_seconds` old. Raises HearthError."""
        name = full_name(model)
        if time.monotonic() - self._named_at > self._settings.model_list_seconds or name not in self._names:
            await self._list()
        return name in self._names

    async def models(self) -> list[Model]:
        """The models, with what each can do. Raises HearthError."""
        await self._list()
        gate = asyncio.Semaphore(SHOW_CONCURRENCY)

        async def show(name: str, digest: str) -> Model:
            async with gate:
                return await self._show(name, digest)

        return list(await asyncio.gather(*(show(name, digest) for name, digest in self._names.items())))

    async def _list(self) -> None:
        with typed_errors(host=self.name, model=""):
            async with _quickly(self.name):
                listed = await self.client.list()
        self._sizes = {m.model or "": int(m.size or 0) for m in listed.models}
        self._names = {m.model: m.digest or "" for m in listed.models if m.model}
        self._named_at = time.monotonic()

    async def _show(self, name: str, digest: str) -> Model:
        key = f"{name}@{digest}"
        if key not in self._shown:
            with typed_errors(host=self.name, model=name):
                async with _quickly(self.name):
                    shown = await self.client.show(name)
            details, info = shown.details, shown.modelinfo or {}
            context = next((v for k, v in info.items() if k.endswith(".context_length")), 0)
            self._shown[key] = Model(
                name=name,
                digest=digest,
                capabilities=tuple(shown.capabilities or ()),
                family=(details.family if details else None) or "",
                parameter_size=(details.parameter_size if details else None) or "",
                quantization=(details.quantization_level if details else None) or "",
                size_bytes=self._sizes.get(name, 0),
                context_tokens=int(context),
                hosts=(self.name,),
            )
        return self._shown[key]


@asynccontextmanager
async def _quickly(host: str) -> AsyncIterator[None]:
    """Bounds a request that needs no model, and names the host where it takes longer."""
    try:
        async with asyncio.timeout(LIST_TIMEOUT_SECONDS):
            yield
    except TimeoutError as error:
        raise unreachable(host) from error


class Hosts:
    """All hosts, and which of them is to answer."""

    def __init__(self, settings: InferenceSettings) -> None:
        urls = [url.strip() for url in settings.ollama_url.split(",") if url.strip()]
        self.all = tuple(Host(url, settings) for url in urls)

    async def close(self) -> None:
        """Closes the connections."""
        for host in self.all:
            await host.close()

    async def for_model(self, model: str) -> list[Host]:
        """The hosts that have the model, the least busy first.

        Raises ModelNotFound where all hosts answer and none has it, ModelHostUnavailable where one that might does not.
        """
        answers = await asyncio.gather(*(host.has(model) for host in self.all), return_exceptions=True)
        having, failure = [], None
        for host, answer in zip(self.all, answers, strict=True):
            match answer:
                case HearthError():
                    failure = answer
                case BaseException():
                    raise answer
                case True:
                    having.append(host)
        if not having:
            raise failure or unknown_model(model)
        return sorted(having, key=lambda host: host.slots.active + host.slots.waiting)

    async def models(self) -> tuple[list[Model], list[ModelHost]]:
        """All models by name, merged over the hosts, and the hosts as they are."""
        answers = await asyncio.gather(*(_described(host) for host in self.all))
        models: dict[str, Model] = {}
        for found, host in answers:
            for model in found:
                known = models.get(model.name)
                models[model.name] = replace(known, hosts=(*known.hosts, host.name)) if known else model
        return [models[name] for name in sorted(models)], [host for _, host in answers]


async def _described(host: Host) -> tuple[Sequence[Model], ModelHost]:
    models: Sequence[Model] = ()
    version, error = "", ""
    try:
        version = await host.version()
        models = await host.models()
    except HearthError as failure:
        error = failure.detail
    return models, ModelHost(
        name=host.name,
        reachable=not error,
        version=version,
        error=error,
        active_requests=host.slots.active,
        waiting_requests=host.slots.waiting,
    )


def full_name(model: str) -> str:
    """A name without a tag means `:latest`."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
